"""Datasets that a person's own function makes: ``package.module:factory`` and ``path/file.py:factory``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdbench.code.factory import load_factory
from kdbench.code.foreign import foreign
from kdbench.data.dataset import Examples, Raw
from kdbench.data.options import COMMON
from kdbench.data.registry import FILE_FACTORY, MODULE_FACTORY, Request, source
from kdbench.errors import UserError, in_words, unknown
from kdbench.inputs import IMAGE
from kdbench.targets import Target, target_of

_KEYS = ("train", "test", "validation", "classes")
_RETURNED = (
    "((x_train, y_train), (x_test, y_test)), x uint8 (N, H, W) or (N, H, W, C) or a mapping of named fields, "
    "y integers (N,), or 0 and 1 for each of several labels (N, K)"
)
_SHAPES = "uint8 images of shape (N, H, W) or (N, H, W, C) with C of 1 or 3"
# What a batch holds the numbers of a field as, by the kind of its dtype.
# Whole numbers up to here are the same as floats.
LARGEST = 2**53
_NUMBERS = {"f": np.float32, "i": np.int64, "u": np.int64}


@source(
    MODULE_FACTORY,
    title=f"a function of an importable module, given the dataset's further args, that returns {_RETURNED}",
    options=None,
)
@source(
    FILE_FACTORY,
    title=f"a function of a Python file, given the dataset's further args, that returns {_RETURNED}",
    options=None,
)
def load(request: Request) -> Raw:
    """Call the function and check what it returns.

    It returns ``((x_train, y_train), (x_test, y_test))``, or a mapping with ``train``, ``test`` and, if it
    has them, ``validation`` (pairs) and ``classes`` (names). Images are uint8, channels last: (N, H, W) or
    (N, H, W, C) with C of 1 or 3; labels are whole numbers 0 .. K − 1, (N,), or what else a target of
    `kdbench.targets` takes. In the place of images there may be a mapping of fields: ``image`` is one of
    images, any other one of numbers (N, ...), float or whole. NumPy arrays and tensors serve alike. Arguments
    of the dataset that kdbench does not know itself are passed to the function.
    """
    name = request.reference
    factory = load_factory(name)
    own = dict(request.options.own)
    _check_arguments(factory, own)
    try:
        with foreign(f"dataset factory {name}", limited=True):
            returned = factory(**own)
    except UserError:
        raise
    except Exception as error:
        reason = in_words(error)
        raise UserError(f"dataset factory {name} raised {type(error).__name__}: {reason}") from error
    parts = _parts(name, returned)
    pairs = {part: _pair(f"{part} of {name}", parts[part]) for part in _KEYS[:3] if part in parts}
    target = _target(name, {part: labels for part, (_, _, labels) in pairs.items()})
    splits = {
        part: Examples(images, target.stored(f"{part} of {name}", labels), fields=fields)
        for part, (images, fields, labels) in pairs.items()
    }
    if "classes" in parts:
        classes = _names(name, parts["classes"])
    else:
        count = target.num_classes(name, (examples.labels for examples in splits.values()))
        classes = tuple(str(label) for label in range(count))
    return Raw(splits["train"], splits["test"], classes, splits.get("validation"), target=target.name)


def _target(name: str, labels: Mapping[str, np.ndarray]) -> Target:
    """Return the target that the labels of all splits are of."""
    targets = {}
    for part, values in labels.items():
        target = target_of(values)
        if target is None:
            raise UserError(
                f"labels of {part} of {name} are {values.dtype} of shape {values.shape}: return whole "
                "numbers, shape (N,), or 0 and 1 for each label, shape (N, K)."
            )
        targets[part] = target
    for part, target in targets.items():
        if target.name != targets["train"].name:
            raise UserError(
                f"labels of {part} of {name} are {target.name} and those of train {targets['train'].name}: "
                "return one kind."
            )
    return targets["train"]


def _names(name: str, classes: Any) -> tuple[str, ...]:
    if not isinstance(classes, Sequence | np.ndarray) or isinstance(classes, str | bytes):
        raise UserError(f"classes of {name} are {_kind(classes)}: return a list of names.")
    return tuple(map(str, classes))


def _check_arguments(factory: Any, own: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except ValueError:  # some of what is written in C
        raise UserError(
            "the dataset's function has no signature: call it in a function of your own."
        ) from None
    parameters = signature.parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for name in own:
            if name not in signature.parameters:
                raise unknown("dataset argument", name, [*COMMON, *signature.parameters])
    try:
        signature.bind(**own)
    except TypeError as error:
        raise UserError(f"the dataset's function cannot be called: {error}. Give it in the args.") from error


def _parts(name: str, returned: Any) -> Mapping[str, Any]:
    if isinstance(returned, Mapping):
        for key in returned:
            if key not in _KEYS:
                raise unknown(f"key returned by {name}", str(key), _KEYS)
        for key in ("train", "test"):
            if key not in returned:
                raise UserError(
                    f"{name} returned no '{key}': return pairs (images, labels) for train and test."
                )
        return returned
    if isinstance(returned, (tuple, list)) and len(returned) == 2:
        return {"train": returned[0], "test": returned[1]}
    raise UserError(
        f"{name} returned {_kind(returned)}: return ((x_train, y_train), (x_test, y_test)) or a mapping "
        "with train, test, and perhaps validation and classes."
    )


def _pair(where: str, pair: Any) -> tuple[NDArray[np.uint8] | None, dict[str, NDArray[Any]], np.ndarray]:
    """Return images, other fields and labels of one split."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UserError(f"{where} is {_kind(pair)}: return a pair (images, labels).")
    labels = _array(f"labels of {where}", pair[1])
    images, fields = _inputs(where, pair[0])
    if images is not None and images.shape[:1] != labels.shape[:1]:
        count = len(labels) if labels.ndim else "no list of"
        raise UserError(f"{where} has {len(images)} images and {count} labels: return one an image.")
    return images, fields, labels


def _inputs(where: str, returned: Any) -> tuple[NDArray[np.uint8] | None, dict[str, NDArray[Any]]]:
    """Return the images and the other fields, checked.

    They are copies: what the function keeps must not change with the run, nor the run with it.
    """
    named = dict(returned) if isinstance(returned, Mapping) else {IMAGE: returned}
    images = _images(where, _array(f"images of {where}", named.pop(IMAGE))) if IMAGE in named else None
    if images is None and not named:
        raise UserError(f"{where} has no field: return images, or fields by name.")
    return images, {
        name: _numbers(where, name, _array(f"field {name!r} of {where}", values))
        for name, values in named.items()
    }


def _images(where: str, images: NDArray[Any]) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise UserError(
            f"images of {where} are {images.dtype}: return {_SHAPES}; numbers that are no pixels have a name "
            "of their own, {'sensor': x}."
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        first = images.ndim == 4 and images.shape[1] in (1, 3)
        hint = " Channels come last: permute(0, 2, 3, 1)." if first else ""
        raise UserError(f"images of {where} have shape {images.shape}: return {_SHAPES}.{hint}")
    return images.copy()


def _numbers(where: str, name: Any, values: NDArray[Any]) -> NDArray[Any]:
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"{where} has a field {name!r}: name it by a word, such as 'sensor'.")
    if values.dtype == np.uint8 and values.ndim > 2:
        raise UserError(
            f"field '{name}' of {where} is uint8 of shape {values.shape}: name images '{IMAGE}', and return "
            "anything else as float32 or int64."
        )
    dtype = _NUMBERS.get(values.dtype.kind)
    if dtype is None or not values.ndim or (values.size == 0 and len(values)):
        raise UserError(
            f"field '{name}' of {where} is {values.dtype} of shape {values.shape}: return floats or whole "
            "numbers, with a row an example."
        )
    if dtype is np.int64 and values.size and max(-int(values.min()), int(values.max())) > LARGEST:
        raise UserError(f"field '{name}' of {where} has whole numbers beyond ±2**53: give smaller ones.")
    return values.astype(dtype)


def _array(where: str, values: Any) -> np.ndarray:
    try:
        return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    except (
        TypeError,
        ValueError,
        RuntimeError,
        NotImplementedError,
    ) as error:  # ragged, sparse or without data
        reason = in_words(error)
        raise UserError(f"{where} cannot be made an array ({reason}): return dense arrays.") from error


def _kind(value: Any) -> str:
    length = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{length}"
