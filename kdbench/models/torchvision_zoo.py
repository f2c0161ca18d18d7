"""Classification models of torchvision, by name, with fresh weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from kdbench.errors import unknown


def builder_of(name: str) -> Callable[..., nn.Module]:
    """Return the function that builds a classification model of torchvision; raises UserError if unknown."""
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
