"""The names that models go by, and how a name becomes a module.

A model is one function in a file of this package, registered with ``@family``. A family's name is a
pattern: ``mlp_128_64`` is the family ``mlp`` with the sizes 128 and 64. Models from elsewhere are
named by where they come from: ``torchvision:resnet18``, ``package.module:factory``,
``path/file.py:factory``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.code.foreign import foreign
from kdbench.deferred import nn
from kdbench.errors import UserError, in_words, nearest, unknown
from kdbench.inputs import InputSpec
from kdbench.registry import Registry

Builder = Callable[..., "nn.Module"]


@dataclass(frozen=True)
class Family:
    """A family of models: the pattern of its names, the sizes that listings show, its source.

    ``build`` is called with the groups of the pattern, then ``input_shape=(C, H, W)``,
    ``num_classes`` and the arguments that a suite gives.
    """

    name: str
    pattern: re.Pattern[str]
    build: Builder
    examples: tuple[str, ...]
    summary: str
    source: str


FAMILIES: Registry[Family] = Registry("model", home="kdbench.models.zoo")


def family(
    name: str, *, pattern: str, examples: tuple[str, ...], summary: str, source: str
) -> Callable[[Builder], Builder]:
    """Register a function as the family of models whose names match ``pattern`` in full."""

    def register(build: Builder) -> Builder:
        FAMILIES.add(name, Family(name, re.compile(pattern), build, examples, summary, source), build)
        return build

    return register


def families() -> dict[str, Family]:
    """Return every family of the zoo by name."""
    return dict(sorted(FAMILIES.all().items()))


def model_names() -> list[str]:
    """Return the names that listings show: the examples of every family."""
    return [example for entry in families().values() for example in entry.examples]


def build_model(
    name: str,
    *,
    inputs: InputSpec,
    num_classes: int,
    args: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a model by any name that a suite accepts, with fresh weights from torch's generator.

    Args:
        name: a name of the zoo, ``torchvision:NAME``, ``package.module:factory`` or ``path/file.py:factory``.
        inputs: what it is shown; a model of the zoo and of torchvision takes one image.
        num_classes: width of the last layer.
        args: further keyword arguments of the model.

    A model from elsewhere returns its logits alone, whatever it wraps them in (see ``outputs``), and its
    lazy weights are made.

    Raises:
        UserError: for an unknown name, arguments that the model does not take, or a model that
            cannot be built.
    """
    builder, positional = find_builder(name)
    keywords: dict[str, Any] = _standard_arguments(name, builder, inputs, num_classes)
    keywords |= _checked_arguments(name, builder, args or {})
    from kdbench.shared_state import kept_settings

    try:
        with kept_settings(), foreign(f"model '{name}'", limited=True):
            model = builder(*positional, **keywords)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"model '{name}' could not be built: {type(error).__name__}: {_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model '{name}': the factory returned {type(model).__name__}, not a torch.nn.Module."
        )
    if is_foreign(name):
        from kdbench.models.foreign import adapt

        try:
            adapt(model, inputs)
        except UserError as error:
            raise UserError(f"model '{name}': {error}") from error
    return model


def is_foreign(name: str) -> bool:
    """Return whether a model comes from elsewhere than the zoo, so that nothing is known of its habits."""
    return ":" in name


def find_builder(name: str) -> tuple[Builder, tuple[str, ...]]:
    """Return the function behind a model's name and what the name gives it; raises UserError if unknown."""
    if name.startswith("torchvision:"):
        return _torchvision_builder(name.removeprefix("torchvision:")), ()
    if ":" in name:
        from kdbench.code.factory import load_factory

        return load_factory(name), ()
    for entry in families().values():
        match = entry.pattern.fullmatch(name)
        if match:
            return entry.build, match.groups()
    raise unknown("model", name, model_names())


def _torchvision_builder(name: str) -> Builder:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise unknown("torchvision model", name, names)
    builder = torchvision.models.get_model_builder(name)

    def build(num_classes: int, **args: object) -> nn.Module:
        # googlenet and inception_v3 return a tuple in training unless their auxiliary heads are left out
        if name in ("googlenet", "inception_v3"):
            args.setdefault("aux_logits", False)
            args.setdefault("init_weights", True)
        return builder(weights=None, num_classes=num_classes, **args)

    return build


def source_of(name: str) -> str | None:
    """Return a fingerprint of the user's code behind a model's name; None for zoo and torchvision."""
    if ":" not in name or name.startswith("torchvision:"):
        return None
    from kdbench.code.factory import factory_fingerprint

    return factory_fingerprint(name)


def _standard_arguments(name: str, builder: Builder, inputs: InputSpec, num_classes: int) -> dict[str, Any]:
    """Give a factory those of inputs, num_classes, input_shape and in_channels that its signature takes.

    The last two are there where the inputs are one image.
    """
    shape = inputs.image_shape
    of_an_image = {"input_shape": shape, "in_channels": shape[0] if shape else None}
    offered = {"inputs": inputs, "num_classes": num_classes} | (of_an_image if shape else {})
    parameters = inspect.signature(builder).parameters
    if not shape and any(key in parameters and _required(parameters[key]) for key in of_an_image):
        raise UserError(
            f"model '{name}' takes one image, not inputs of {inputs}: use a model of your own that takes "
            "'inputs'."
        )
    keywords = {key: value for key, value in offered.items() if key in parameters}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        keywords["num_classes"] = num_classes
    return keywords


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _checked_arguments(name: str, builder: Builder, args: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(builder).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        allowed = [key for key, value in parameters.items() if value.kind is not value.POSITIONAL_ONLY]
        for key in args:
            if key not in allowed:
                raise UserError(f"model '{name}' takes no argument '{key}'.{nearest(key, allowed)}")
    return dict(args)


def _line(error: Exception) -> str:
    return in_words(error)
