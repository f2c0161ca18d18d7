"""Loading weights that a user brings into a model.

How a file is read is told by `kdbench.models.weight_file`, how other programs lay weights out in it by
`kdbench.models.layout`; what PyTorch fills in (the counters of batch-norm layers, which it did not write
before version 0.4.1) and converts when it loads is left to PyTorch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from kdbench.errors import UserError, in_words, nearest
from kdbench.models.finite import nonfinite
from kdbench.models.layout import Layout, layouts, same_shape, shown
from kdbench.models.weight_file import read_weight_file
from kdbench.printable import printable

# Among how many names the one is looked for that was meant, and how many are listed.
_CANDIDATES = 1_000
_LISTED = 5


def load_checkpoint(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Load weights from a file into a model; return what a user should know of how that was done.

    That is: which of several sets of weights was taken, what was left out, and a conversion of the
    arithmetic. Raises UserError, of one printable line, for a missing, damaged or refused file, and naming
    the first weight that is missing, unexpected, of another shape or kind of number, or not finite.
    """
    try:
        notes = _load(model, path)
    except UserError as error:
        raise UserError(printable(str(error))) from error
    return tuple(printable(f"checkpoint {path}: {note}") for note in notes)


def _load(model: nn.Module, path: Path) -> list[str]:
    expected = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    counters = frozenset(_counters(model))
    chosen, others = _chosen(path, read_weight_file(path), expected, counters)
    for name, value in chosen.strangers.items():
        raise UserError(f"checkpoint {path}: entry '{shown(name)}' is {type(value).__name__}, not a tensor.")
    faults = {
        name: fault
        for name, tensor in expected.items()
        if name in chosen.weights and (fault := _fault(chosen.weights[name], tensor, name in counters))
    }
    state = _state(model, chosen, expected, counters, without=faults)
    # What a network itself fills with others, such as a mask of infinities, may have them in a file too.
    finite = [name for name, tensor in expected.items() if is_lazy(tensor) or not nonfinite(tensor)]
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except Exception as error:  # modules read the versions in a file, and convert names, each in their way
        raise UserError(f"checkpoint {path} does not fit: {_line(error)}.") from error
    missing = [name for name in missing if name not in faults]
    if missing:
        hint = nearest(missing[0], filter(_is_short, unexpected[:_CANDIDATES]))
        raise UserError(
            f"checkpoint {path} lacks {len(missing)} of the model's {len(expected)} weights, "
            f"first '{missing[0]}'.{hint}"
        )
    if unexpected:
        raise UserError(
            f"checkpoint {path} holds {len(unexpected)} weights that the model lacks, "
            f"first '{shown(unexpected[0])}'.{nearest(unexpected[0], expected)}"
        )
    for name, fault in faults.items():
        raise UserError(f"checkpoint {path}: '{name}' {fault}")
    loaded = model.state_dict()
    for name in finite:
        if broken := nonfinite(loaded[name]):
            raise UserError(f"checkpoint {path}: weight '{name}' is {broken}; mend the checkpoint.")
    return [*_choices(chosen, others), *_conversions(chosen, expected)]


def _is_short(name: str) -> bool:
    return shown(name) == name


def _counters(model: nn.Module) -> Iterator[str]:
    """Yield the names of what normalisation layers count, which no evaluation reads."""
    for name, module in model.named_modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            yield f"{name}.num_batches_tracked" if name else "num_batches_tracked"


def _chosen(
    path: Path, content: Any, expected: Mapping[str, Tensor], counters: frozenset[str]
) -> tuple[Layout, list[Layout]]:
    """Return the weights in a file that are taken for a model, and the others that fit it as well.

    Where none fit, they are those that come nearest.
    """
    try:
        possible = layouts(content, expected)
    except UserError as error:
        raise UserError(f"checkpoint {path} {error}") from None
    if not possible:
        kind = type(content).__name__
        if isinstance(content, Mapping) and content:
            kind += f" with the entries {', '.join(map(shown, islice(content, _LISTED)))}"
        raise UserError(f"checkpoint {path} holds {kind}, not weights by name (a state_dict).")
    fitting: dict[tuple[int, ...], Layout] = {}
    for layout in possible:
        if layout.fits(expected, counters):
            # One tensor under several names is one set of weights, read in the plainest way.
            fitting.setdefault(tuple(id(layout.weights[name]) for name in sorted(layout.weights)), layout)
    if not fitting:
        # Of equal ones the first is the plainest.
        return max(possible, key=lambda layout: _nearness(layout, expected)), []
    first, *others = sorted(fitting.values(), key=lambda layout: layout.rank)
    if others and others[0].rank == first.rank:
        raise UserError(
            f"checkpoint {path} holds several sets of weights that fit: {first.shown} and "
            f"{others[0].shown}. Save the one that is meant alone: torch.save(weights, path)."
        )
    return first, others


def _nearness(layout: Layout, expected: Mapping[str, Tensor]) -> tuple[int, int]:
    return len(expected.keys() & layout.weights.keys()), len(layout.weights)


def _fault(weight: Tensor, expected: Tensor, counts: bool) -> str | None:
    """Return why a weight cannot be that of a model, None where it can.

    Averages over a whole state_dict turn what are integers into floating-point numbers: they are taken where
    no value is lost, and always where they only count, which no evaluation reads.
    """
    if not same_shape(weight, expected):
        return (
            f"has shape {tuple(weight.shape)}, the model needs {tuple(expected.shape)}: "
            "other classes, channels or width?"
        )
    if weight.layout != torch.strided:
        return (
            f"is sparse ({str(weight.layout).removeprefix('torch.')}): save it dense, as tensor.to_dense()."
        )
    if weight.is_meta:
        return "has a shape and no values (device meta): save the model after its weights were loaded."
    kinds = {(tensor.dtype.is_floating_point, tensor.dtype.is_complex) for tensor in (weight, expected)}
    if len(kinds) == 1 or (weight.dtype.is_floating_point and (counts or _is_kept(weight, expected.dtype))):
        return None
    return f"holds {_dtype(weight)}, the model needs {_dtype(expected)}: are they quantised?"


def _is_kept(weight: Tensor, dtype: torch.dtype) -> bool:
    """Return whether a conversion keeps every value."""
    return not dtype.is_complex and torch.equal(weight.to(dtype).to(weight.dtype), weight)


def _state(
    model: nn.Module,
    layout: Layout,
    expected: Mapping[str, Tensor],
    counters: frozenset[str],
    without: Collection[str],
) -> OrderedDict[str, Tensor]:
    """Return weights as ``load_state_dict`` takes them, with the versions by which torch converts them."""
    state = OrderedDict(
        (name, weight if name not in expected or is_lazy(expected[name]) else weight.view_as(expected[name]))
        for name, weight in layout.weights.items()
        if name not in without
    )
    versions = layout.versions
    if versions is None and layout.fits(expected, counters):
        # Some modules refuse weights of no version, which are all that safetensors hold.
        versions = getattr(model.state_dict(), "_metadata", {})
    if versions is not None:
        lacking = {name.rpartition(".")[0] for name in counters - layout.weights.keys()}
        state._metadata = {  # type: ignore[attr-defined]
            name: version for name, version in versions.items() if name not in lacking
        }
    return state


def _choices(chosen: Layout, others: list[Layout]) -> Iterator[str]:
    if others:
        names = ", ".join(layout.shown for layout in others[:_LISTED])
        if len(others) > _LISTED:
            names += f" and {len(others) - _LISTED:,} more"
        yield (
            f"of the sets of weights that fit, {chosen.shown} was taken and {names} left out; "
            "to use another, save it alone."
        )
        return
    if chosen.averaged:
        yield f"the averaged weights {chosen.shown} were taken: no others in it fit."
    if chosen.left_out:
        names = "entry was" if len(chosen.left_out) == 1 else "entries were"
        yield (
            f"{len(chosen.left_out)} {names} left out, no weights of this model, "
            f"first '{shown(chosen.left_out[0])}'."
        )


def _conversions(chosen: Layout, expected: Mapping[str, Tensor]) -> Iterator[str]:
    cast = {
        (_dtype(weight), _dtype(expected[name]))
        for name, weight in chosen.weights.items()
        if name in expected
        and weight.dtype.is_floating_point
        and expected[name].dtype.is_floating_point
        and weight.dtype != expected[name].dtype
    }
    for stored, needed in sorted(cast):
        yield f"weights that are stored as {stored} were read as {needed}."


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {in_words(error)[:160] or 'no message'}"
