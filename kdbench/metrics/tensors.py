"""The tensors that metrics ask for by name: what is given, what is derived, which shapes agree.

A metric is a function whose parameter names say what it needs. The names are declared here, and a
letter stands for each axis: N examples of the measured split, M of the train split, V of the validation
split, K classes; R of the N examples of which features are kept, D and E features of student and teacher.

==================================================  ======  =============================================
name                                                shape   meaning
==================================================  ======  =============================================
``logits``, ``teacher_logits``                      (N, K)  given; any floating type
``labels``                                          (N,)    given; integers from 0 to K − 1
``train_logits``                                    (M, K)  given; the student's, without augmentation
``train_labels``                                    (M,)    given; integers from 0 to K − 1
``validation_logits``                               (V, K)  given; the student's
``validation_labels``                               (V,)    given; integers from 0 to K − 1
``features``, ``teacher_features``                  (R, D)  given; pooled features of the same R examples
``temperature``                                     ()      given; T of the soft targets, a scalar
``log_probs``, ``teacher_log_probs``                (N, K)  log-softmax of the logits at T = 1, float64
``train_log_probs``                                 (M, K)  the same for the train split
``predictions``, ``teacher_predictions``            (N,)    argmax of the logits; the first of equals
``train_predictions``                               (M,)    the same for the train split
``num_classes``                                     int     K
==================================================  ======  =============================================

A metric file that needs more calls `declare` (given) or `derive` (computed once, shared) at import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from kdbench.errors import nearest

# 8 MiB of float64 a block: temporaries stay near the cache and small beside the (N, K) tensors themselves.
BLOCK_ELEMENTS = 1 << 20

Kind = Literal["real", "class", "set"]


class Undefined(Exception):
    """A metric has no value for these tensors; the text is the reason that the record keeps."""


@dataclass(frozen=True)
class Input:
    """A tensor that callers of ``score`` may give: real numbers, indices of classes, or sets as 0 and 1."""

    axes: str
    kind: Kind
    text: str


@dataclass(frozen=True)
class Derived:
    """A value computed from others, at most once for each call of ``score``."""

    axes: str
    function: Callable[..., Any]
    needs: tuple[str, ...]


KNOWN: dict[str, Input | Derived] = {}


def declare(name: str, axes: str, kind: Kind, text: str) -> None:
    """Declare a tensor that callers may give; ``text`` completes "needs ..." where they do not.

    ``axes`` has one letter an axis, the examples first, and is empty for a scalar. Raises ValueError where
    the name is taken.
    """
    _add(name, Input(axes, kind, text))


def derive(name: str, axes: str, function: Callable[..., Any], needs: tuple[str, ...]) -> None:
    """Declare a value that ``function`` computes from the tensors named by ``needs``, in that order.

    ``axes`` is empty for what is not a tensor. ``function`` may raise Undefined: whatever needs the
    value is then undefined too. Raises ValueError where the name is taken or a need is not known.
    """
    for need in needs:
        require_known(need, f"'{name}'")
    _add(name, Derived(axes, function, needs))


def _add(name: str, entry: Input | Derived) -> None:
    if name in KNOWN:
        raise ValueError(f"a tensor named '{name}' is declared already")
    KNOWN[name] = entry


def require_known(name: str, asker: str) -> None:
    """Raise ValueError where ``asker`` asks for a tensor that nobody declared."""
    if fault := unknown_tensor(name):
        raise ValueError(f"{asker} asks for an {fault}")


def unknown_tensor(name: str) -> str | None:
    """Return that nobody declared a tensor, with the nearest one that is known; None where it is known."""
    return None if name in KNOWN else f"unknown tensor '{name}'.{nearest(name, KNOWN)}"


def inputs_of(names: Iterable[str]) -> frozenset[str]:
    """Return the given tensors that the named ones are, or are computed from.

    >>> sorted(inputs_of(["predictions", "labels"]))
    ['labels', 'logits']
    """
    inputs: set[str] = set()
    for name in names:
        entry = KNOWN[name]
        inputs |= {name} if isinstance(entry, Input) else inputs_of(entry.needs)
    return frozenset(inputs)


def check_shapes(arguments: Mapping[str, Any]) -> dict[str, int]:
    """Return the size of each axis letter; raise ValueError, naming the shapes, where two disagree.

    Names that are not declared, or that are no tensors, are passed over.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for name, value in arguments.items():
        axes = KNOWN[name].axes if name in KNOWN else ""
        if not axes:
            continue
        shape = tuple(value.shape)
        if len(shape) != len(axes):
            raise ValueError(
                f"{name} has shape {shape}, expected ({', '.join(axes)}{',' * (len(axes) == 1)})"
            )
        for axis, size in zip(axes, shape, strict=True):
            expected, other = sizes.setdefault(axis, (size, name))
            if expected != size:
                raise ValueError(
                    f"{name} has shape {shape}, but {other} has shape {tuple(arguments[other].shape)}: "
                    f"they must agree in {axis}"
                )
            if axis == "K" and size == 0:
                raise ValueError(f"{name} has shape {shape}: there must be at least one class")
    return {axis: size for axis, (size, _) in sizes.items()}


def check_not_empty(arguments: Mapping[str, Any]) -> None:
    """Raise Undefined where a tensor holds no examples, because a mean over none has no value."""
    for name, value in arguments.items():
        if name in KNOWN and KNOWN[name].axes and len(value) == 0:
            raise Undefined(f"the split is empty: {name} has shape {tuple(value.shape)}")


class Tensors:
    """The tensors of one call of ``score``, by name; what is derived is computed when first asked for.

    Raises ValueError for a name that nobody declared, shapes that disagree, a wrong type, or a label
    that is no class. Asking for what cannot be had (absent, empty, not finite) raises Undefined.
    """

    def __init__(self, tensors: Mapping[str, Tensor], absent: Mapping[str, str] | None = None) -> None:
        """Check the tensors against each other; ``absent`` says why others are missing."""
        inputs = [name for name, entry in KNOWN.items() if isinstance(entry, Input)]
        self._absent = dict(absent or {})
        for name in (*tensors, *self._absent):
            if name not in inputs:
                hint = nearest(name, inputs) or f" Known: {', '.join(inputs)}."
                raise ValueError(f"'{name}' is not a tensor that metrics take.{hint}")
        sizes = check_shapes(tensors)
        self._inputs = {name: _checked(name, tensor, sizes.get("K")) for name, tensor in tensors.items()}
        self._values: dict[str, Any] = {}
        self._undefined: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a tensor by name; raises Undefined where there is none for these inputs."""
        if name in self._undefined:
            raise Undefined(self._undefined[name])
        if name not in self._values:
            try:
                self._values[name] = self._computed(name)
            except Undefined as reason:
                self._undefined[name] = str(reason)
                raise
        return self._values[name]

    def _computed(self, name: str) -> Any:
        entry = KNOWN[name]
        if isinstance(entry, Derived):
            return entry.function(*[self[need] for need in entry.needs])
        if name not in self._inputs:
            raise Undefined(self._absent.get(name, f"needs {entry.text}"))
        tensor = self._inputs[name]
        check_not_empty({name: tensor})
        if not entry.axes and not tensor.isfinite():
            raise Undefined(f"{entry.text} is not finite")
        if entry.kind == "real" and entry.axes:
            finite = per_example(lambda rows: rows.isfinite().reshape(len(rows), -1).all(dim=1), tensor)
            if not finite.all():
                bad = len(finite) - int(finite.sum())
                raise Undefined(f"NaN or infinity in {bad} of {len(finite)} examples of {entry.text}")
        return tensor


def _checked(name: str, tensor: Tensor, num_classes: int | None) -> Tensor:
    entry = KNOWN[name]
    if isinstance(entry, Input) and entry.kind == "class":
        if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
            raise ValueError(f"{name} has type {tensor.dtype}, expected integers")
        tensor = tensor.long()
        if num_classes is not None and len(tensor):
            low, high = int(tensor.min()), int(tensor.max())
            if low < 0 or high >= num_classes:
                raise ValueError(f"{name} reach from {low} to {high}, expected 0 to {num_classes - 1}")
    elif isinstance(entry, Input) and entry.kind == "set":
        if tensor.is_floating_point() or tensor.is_complex():
            raise ValueError(f"{name} has type {tensor.dtype}, expected integers")
        if bool(((tensor != 0) & (tensor != 1)).any()):
            raise ValueError(f"{name} reach from {tensor.min()} to {tensor.max()}, expected 0 and 1")
    elif not tensor.is_floating_point():
        raise ValueError(f"{name} has type {tensor.dtype}, expected a floating type")
    elif isinstance(entry, Input) and not entry.axes and tensor.ndim:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected a scalar: ()")
    return tensor


def row_blocks(tensor: Tensor) -> Iterator[slice]:
    """Yield slices that cut the rows of a tensor into blocks of about `BLOCK_ELEMENTS` elements."""
    rows = max(1, BLOCK_ELEMENTS * len(tensor) // max(1, tensor.numel()))
    for start in range(0, max(1, len(tensor)), rows):
        yield slice(start, start + rows)


def per_example(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Return ``function(*tensors)``, a value for each row, computed block by block.

    The temporaries of the function are of the size of a block, whatever the number of rows.
    """
    return torch.cat([function(*[tensor[block] for tensor in tensors]) for block in row_blocks(tensors[0])])


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the log-softmax of z/T (N, K) in float64, without a float64 copy of the logits z.

    What is divided is z less the highest logit of its row, so that a constant added to a row costs no digits
    and rows that differ in nothing else get the same bits.
    """
    result = torch.empty(logits.shape, dtype=torch.float64, device=logits.device)
    for block in row_blocks(logits):
        rows = logits[block].double()
        if temperature != 1:
            rows = (rows - rows.amax(dim=1, keepdim=True)).div_(temperature)
        torch.log_softmax(rows, dim=1, out=result[block])
    return result


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the class of the highest logit of each row (N, K); the lowest index among equals."""
    return logits.argmax(dim=1)


declare("logits", "NK", "real", "the student's logits")
declare("labels", "N", "class", "the labels")
declare("teacher_logits", "NK", "real", "the teacher's logits")
declare("train_logits", "MK", "real", "the logits of the train split")
declare("train_labels", "M", "class", "the labels of the train split")
declare("validation_logits", "VK", "real", "the logits of the validation split")
declare("validation_labels", "V", "class", "the labels of the validation split")
declare("features", "RD", "real", "the student's pooled features")
declare("teacher_features", "RE", "real", "the teacher's pooled features")
declare("temperature", "", "real", "the temperature of the soft targets")
for _prefix, _axes in {"": "NK", "teacher_": "NK", "train_": "MK"}.items():
    derive(f"{_prefix}log_probs", _axes, log_probabilities, (f"{_prefix}logits",))
    derive(f"{_prefix}predictions", _axes[0], predicted_classes, (f"{_prefix}logits",))
derive("num_classes", "", lambda logits: logits.shape[1], ("logits",))
