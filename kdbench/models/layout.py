"""Where in a file the weights of a model lie, and under which names.

Programs that train save more than weights, and wrap networks before they save them. Seen through are:

- entries that hold the weights beside other things, one inside another too: ``state_dict``, ``model``,
  ``ema: {module: ...}``;
- parts that wrappers put anywhere into names: ``module`` (DataParallel, also around a part of a network),
  ``_orig_mod`` (torch.compile), those of FSDP and of activation checkpointing;
- a prefix of all names, or a usual one of those that matter: ``model.`` of a Lightning module, whose loss
  function has weights too.

A layout counts only if the names and shapes that it gives are those of the model. Of several that do, plain
weights go before averaged ones (``ema``, ``model_ema``), and usual names before others.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy

from kdbench.errors import UserError
from kdbench.printable import printable

# Names of entries and prefixes that hold a network, in the order in which they are taken.
USUAL = ("state_dict", "model_state_dict", "model", "net", "network", "params")
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
AVERAGED = frozenset(("ema", "swa", "avg", "average", "averaged", "shadow"))
# What averaging (n_averaged) and profilers (thop) leave in a network's state beside its weights.
BOOKKEEPING = frozenset(("n_averaged", "total_ops", "total_params"))
# What may hold weights, also one in another; no deeper than this, for an entry may hold itself.
_Holder = Mapping | list | tuple
_DEPTH = 4
# The most prefixes in one entry that are looked below.
_PREFIXES = 64

Place = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Weights by the names that they have in a model.

    ``place`` are the entries of the file that lead to them, then the parts of the prefix that was taken off;
    ``versions`` what torch noted of each module beside them; ``left_out`` the names in the same entry that
    are not the model's; ``strangers`` what else the entry holds, by name.
    """

    place: Place
    weights: dict[str, Tensor]
    versions: Mapping[str, Any] | None = None
    left_out: tuple[str, ...] = ()
    strangers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The place in words."""
        return f"'{shown('.'.join(self.place))}'" if self.place else "the file itself"

    @property
    def averaged(self) -> bool:
        """Whether the names say that the weights are averages over training."""
        return any(_is_averaged(part) for part in self.place)

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """The order in which layouts are taken, the lowest first; of equal ones none can be."""
        parts = [part for part in self.place if part not in WRAPPERS]
        order = USUAL.index(parts[0]) + 1 if parts and parts[0] in USUAL else 0
        return self.averaged, not all(_is_usual(part) for part in parts), order

    def fits(self, expected: Mapping[str, Tensor], optional: frozenset[str]) -> bool:
        """Return whether names and shapes are those of a model; ``optional`` names may be absent."""
        return (
            # First, for it costs nothing where a file holds many small entries.
            len(expected) - len(optional) <= len(self.weights) <= len(expected)
            and expected.keys() - optional <= self.weights.keys() <= expected.keys()
            and not self.strangers
            and all(same_shape(tensor, expected[name]) for name, tensor in self.weights.items())
        )


def shown(name: Any) -> str:
    """Return the name of an entry or a weight as an error shows it: printable, and not too long."""
    text = (
        printable(name) if isinstance(name, str) else repr(name) if type(name) is int else type(name).__name__
    )
    return text if len(text) <= 80 else f"{text[:79]}…"


def same_shape(tensor: Tensor, expected: Tensor) -> bool:
    """Return whether a weight has the shape that a model needs; a scalar may be stored as a list of one."""
    return is_lazy(expected) or tensor.shape == expected.shape or tensor.numel() == expected.numel() == 1


def layouts(content: Any, expected: Mapping[str, Tensor]) -> list[Layout]:
    """Return every way to read a file's content as weights by name, the plainer ones of an entry first.

    Raises UserError, without the name of the file, for content that has too many.
    """
    entries = _entries(content, (), {}) if isinstance(content, _Holder) else ()
    return [layout for entry in entries for layout in _readings(entry, expected)]


def _entries(content: Any, place: Place, seen: dict[int, int]) -> Iterator[Layout]:
    """Yield what maps names to tensors, wherever it lies.

    ``seen`` tells how deep what was looked into lies. It is looked into again only where it lies higher up:
    a small file may hold one thing in very many places.
    """
    seen[id(content)] = len(place)
    if isinstance(content, Mapping):
        named = {name: value for name, value in content.items() if isinstance(name, str)}
        weights = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if weights:
            strangers = {
                name: value for name, value in named.items() if not isinstance(value, Tensor | _Holder)
            }
            versions = getattr(content, "_metadata", None)
            versions = versions if isinstance(versions, Mapping) else None
            yield Layout(place, weights, versions, (), strangers)
    if len(place) == _DEPTH:
        return
    items = content.items() if isinstance(content, Mapping) else enumerate(content)
    for name, value in items:
        if isinstance(value, _Holder) and seen.get(id(value), _DEPTH + 1) > len(place) + 1:
            part = name if isinstance(name, str) else shown(name)
            yield from _entries(value, (*place, part), seen)


def _readings(entry: Layout, expected: Mapping[str, Tensor]) -> Iterator[Layout]:
    """Yield an entry as it stands, without what wrappers put into its names, and below its prefixes."""
    kept = {
        name: weight
        for name, weight in entry.weights.items()
        if name in expected or name.rpartition(".")[2] not in BOOKKEEPING
    }
    readings = [replace(entry, weights=kept)]
    # A network and a wrapped one in one entry would fall together.
    if len({_without_wrappers(name) for name in kept}) == len(kept):
        readings.append(_renamed(readings[0], _without_wrappers))
    yield from readings
    anchor = next(iter(expected), "")
    for reading in readings:
        # What the first and the last name by the alphabet begin with, all begin with.
        outermost = {min(reading.weights, default=""), max(reading.weights, default="")}
        ends = [name for name in reading.weights if name.endswith(f".{anchor}")]
        prefixes = [
            prefix
            for prefix in dict.fromkeys(name.removesuffix(anchor) for name in ends)
            if all(name.startswith(prefix) for name in outermost) or all(map(_is_usual, _parts(prefix)))
        ]
        if len(prefixes) > _PREFIXES:
            raise UserError(
                f"holds {len(prefixes):,} sets of weights beside one another, first '{shown(prefixes[0])}': "
                "save the one that is meant alone."
            )
        for prefix in prefixes:
            below = _renamed(reading, functools.partial(_below, prefix))
            yield replace(below, place=(*below.place, *_parts(prefix)))


def _parts(prefix: str) -> list[str]:
    return prefix.removesuffix(".").split(".")


def _renamed(layout: Layout, rename: Callable[[str], str | None]) -> Layout:
    """Return a layout under other names; what has none is left out."""
    weights: dict[str, Tensor] = {}
    left_out = list(layout.left_out)
    for name, tensor in layout.weights.items():
        new = rename(name)
        if new is None:
            left_out.append(name)
        else:
            weights[new] = tensor
    versions = layout.versions
    if versions is not None:
        # Those of a module go by its name, which is that of its weights without the last part.
        places = {name: rename(f"{name}.weight" if name else "weight") for name in versions}
        versions = {new.rpartition(".")[0]: versions[name] for name, new in places.items() if new is not None}
    return replace(layout, weights=weights, versions=versions, left_out=tuple(left_out))


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _below(prefix: str, name: str) -> str | None:
    return name.removeprefix(prefix) if name.startswith(prefix) else None


def _is_averaged(part: str) -> bool:
    return not AVERAGED.isdisjoint(re.split(r"[_\W\d]+", part.lower()))


def _is_usual(part: str) -> bool:
    return part in USUAL or part in WRAPPERS or _is_averaged(part)
