"""The registry of metrics: a decorator that files a function under its column, and `score`, which runs all.

A metric is a pure function of tensors. Its parameter names say what it needs (see
`kdbench.metrics.tensors` for the names); a parameter with a default is a setting and is left alone.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import torch
from torch import Tensor

from kdbench.code.foreign import foreign
from kdbench.column import SYNONYMS, Column, Direction, Scale
from kdbench.errors import UserError, in_words, unknown
from kdbench.metrics.tensors import (
    Tensors,
    Undefined,
    check_not_empty,
    check_shapes,
    inputs_of,
    unknown_tensor,
)
from kdbench.registry import Registry, place_of
from kdbench.targets import USUAL, Target, find_target

P = ParamSpec("P")

# The families that tables show first, in this order; any other follows by name.
FAMILIES = ("task", "calibration", "fidelity", "selection", "disparity", "features")


@dataclass(frozen=True)
class Metric:
    """A registered function, the column that its value fills and the tensors that it asks for."""

    column: Column
    function: Callable[..., float]
    needs: tuple[str, ...]

    @property
    def inputs(self) -> frozenset[str]:
        """The tensors that must be given to ``score`` for it to have a value."""
        return inputs_of(self.needs)


METRICS: Registry[Metric] = Registry("metric", home="kdbench.metrics", check=lambda member: _fault(member))


def metric(
    name: str,
    *,
    title: str,
    family: str,
    direction: Direction,
    range: str,
    unit: str = "",
    source: str,
    scale: Scale = "plain",
) -> Callable[[Callable[P, float]], Callable[P, float]]:
    """Register a function as the metric that fills the column ``name``; the arguments are the column's.

    The function comes back guarded: called with shapes that disagree it raises ValueError, called
    with no examples it raises Undefined. Raises UserError where the name is taken or a parameter names a
    tensor that is not known.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or name.endswith("_best_val"):
        raise UserError(
            f"metric '{name}': its name is a column's: small letters, digits and _, not _best_val."
        )
    column = Column(name, title, family, direction, unit, range, source, scale)

    def register(function: Callable[P, float]) -> Callable[P, float]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> float:
            arguments = signature.bind(*args, **kwargs).arguments
            check_shapes(arguments)
            check_not_empty(arguments)
            return function(*args, **kwargs)

        METRICS.add(name, Metric(column, guarded, _needs(function)), guarded)
        return guarded

    return register


def _needs(function: Callable[..., Any]) -> tuple[str, ...]:
    parameters = inspect.signature(function).parameters.values()
    return tuple(each.name for each in parameters if each.default is inspect.Parameter.empty)


def _fault(function: Callable[..., Any]) -> str | None:
    return next((f"asks for an {text}" for need in _needs(function) if (text := unknown_tensor(need))), None)


def ordered(
    target: Target | None = None, further: Collection[str] = (), own: Sequence[str] = ()
) -> list[Metric]:
    """Return the metrics of a target, or without one of all targets, in display order.

    A metric is a target's if the target, or ``further``, has every tensor that must be given for it. ``own``
    names further metrics, such as a user's, ``path/file.py:function``. The order is by family (as in
    `FAMILIES`, then others by name), in each the usual target's first, then by the name of the module, and
    within a module from top to bottom.

    Raises UserError for an own metric that is not known, has another's name, or is not the target's.
    """
    usual = set(find_target(USUAL).tensors.values())

    def place(entry: Metric) -> tuple[int, str, bool, str]:
        family = entry.column.family
        rank = FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)
        return rank, family, not entry.inputs <= usual, entry.function.__module__

    metrics = METRICS.all() | _own(own)
    if target is None:
        return sorted(metrics.values(), key=place)
    has = {*target.tensors.values(), *further}
    for name in own:
        if missing := METRICS.find(name).inputs - has:
            raise UserError(f"metric '{name}' needs {min(missing)}, which {target.name} data does not have.")
    return sorted((entry for entry in metrics.values() if entry.inputs <= has), key=place)


def _own(references: Sequence[str]) -> dict[str, Metric]:
    """Return metrics that are named by references, by their own names."""
    by_name: dict[str, Metric] = {}
    for entry in map(METRICS.find, dict.fromkeys(references)):
        if by_name.setdefault(entry.column.name, entry) is not entry:
            raise UserError(f"two metrics are called '{entry.column.name}': rename one.")
    return by_name


def catalogue(target: Target | None = None, own: Sequence[str] = ()) -> dict[str, Column]:
    """Return the column of every metric by name, in display order (see `ordered`)."""
    return {entry.column.name: entry.column for entry in ordered(target, own=own)}


@torch.no_grad()
def score(
    tensors: Mapping[str, Tensor],
    absent: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
    target: Target | None = None,
    own: Sequence[str] = (),
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the value of every metric of a target, None where it has none, and the reason for each None.

    ``tensors`` holds any of the given tensors of `kdbench.metrics.tensors`, on one device: ``logits``
    (N, K), ``labels`` (N,), ``teacher_logits`` (N, K) and so on. Each may be left out: what needs it is
    then None, for the reason that ``absent`` holds under its name, or for want of it. What several
    metrics need is computed once. Values are in display order, computed in float64. None, never a guess,
    stands where a metric is undefined, a split is empty, the logits that it needs are not finite, or its
    own value is not finite. ``only`` names the metrics to compute; default all. The target is by default
    one class an example; ``own`` names further metrics (see `ordered`).

    Raises UserError for a metric that is not known or not the target's, with the nearest right name, and
    ValueError for a name that is not known, for shapes that disagree, for labels that are no
    classes; an exception of a metric of kdbench other than Undefined propagates, with the metric's name as a
    note, and that of one of a user's own is its reason.

    >>> from torch import tensor
    >>> logits = tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]])
    >>> values, reasons = score({"logits": logits, "labels": tensor([0, 1, 1])})
    >>> round(values["top1"], 3), values["agreement"]
    (0.667, None)
    >>> reasons["agreement"], reasons["top5"]
    ("needs the teacher's logits", 'top-5 needs more than 5 classes')
    """
    metrics = ordered(target or find_target(USUAL), further=tensors, own=own)
    names = {entry.column.name for entry in metrics}
    for name in only or ():
        if name not in names:
            raise unknown("metric", name, names, SYNONYMS)
    available, ours = Tensors(tensors, absent), METRICS.all()
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for entry in metrics:
        name = entry.column.name
        if only is not None and name not in only:
            continue
        try:
            with foreign(f"metric '{name}'"):
                value = float(entry.function(**{need: available[need] for need in entry.needs}))
        except Undefined as reason:
            values[name], reasons[name] = None, str(reason)
            continue
        except Exception as error:
            if name in ours:
                error.add_note(f"while computing the metric '{name}'")
                raise
            # One of a user's own may raise or return anything: the other columns are not lost for it.
            text = in_words(error)
            values[name] = None
            reasons[name] = f"it failed: {type(error).__name__}: {text} ({place_of(entry.function)})"
            continue
        values[name] = value if math.isfinite(value) else None
        if not math.isfinite(value):
            reasons[name] = f"the value is not finite: {'NaN' if math.isnan(value) else value}"
    return values, reasons
