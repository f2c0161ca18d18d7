"""Which places a protocol times models in, and what else it measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, cast

from kdbench.errors import UserError, unknown
from kdbench.place import Place

DEVICES = ("cpu", "cuda")
RUNTIMES = ("eager", "compile", "export", "onnx", "graph")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Dimensions:
    """What is measured beside eager latency in fp32 at one number of threads.

    ``threads`` are further numbers of CPU threads. ``graph`` is a replayed CUDA graph. ``memory`` and
    ``energy`` are measured in passes of their own, in eager mode and fp32.
    """

    runtimes: tuple[str, ...] = ("eager",)
    precisions: tuple[str, ...] = ("fp32",)
    threads: tuple[int, ...] = ()
    memory: bool = False
    energy: bool = False

    def __post_init__(self) -> None:
        """Refuse names that are not known and lists without what others are compared with."""
        _check("runtime", self.runtimes, RUNTIMES)
        _check("precision", self.precisions, PRECISIONS)
        if len(set(self.threads)) != len(self.threads) or any(count < 1 for count in self.threads):
            raise UserError(f"threads must be distinct and at least 1, not {list(self.threads)}.")

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Dimensions:
        """Return the dimensions that ``as_json`` wrote."""
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        return cls(**cast(dict[str, Any], plain))

    def variants(self, device: str, batch: int, threads: int | None) -> list[Place]:
        """Return what takes turns on one device, at one batch size and number of threads: eager fp32 first.

        A CUDA graph is nothing that a CPU could have, and has no place there.
        """
        pairs = product(self.precisions, self.runtimes)
        places = [
            Place(device, batch, threads, *pair) for pair in pairs if (device, pair[1]) != ("cpu", "graph")
        ]
        return sorted(places, key=lambda place: (place.precision, place.runtime) != ("fp32", "eager"))

    def thread_counts(self, device: str) -> tuple[int | None, ...]:
        """Return the numbers of threads that a device is timed with; they are the CPU's."""
        return (None, *self.threads) if device == "cpu" else (None,)

    def places(self, batch_sizes: Sequence[int], devices: Iterable[str] = DEVICES) -> list[Place]:
        """Return every place, in the order of tables."""
        return [
            place
            for device in devices
            for batch in batch_sizes
            for threads in self.thread_counts(device)
            for place in self.variants(device, batch, threads)
        ]


def split_threads(counts: Sequence[int | str]) -> tuple[int | None, tuple[int, ...]]:
    """Return a protocol's own number of threads (None: all) and the further ones, from a list: 1, all.

    One entry is the number that everything is timed with; of several, one has to be ``all``, to which the
    columns belong that name no number. Raises UserError.
    """
    if len(counts) == 1 or not counts:
        return (None if not counts or counts[0] == "all" else int(counts[0])), ()
    if "all" not in counts:
        listed = ", ".join(map(str, counts))
        raise UserError(f"threads {listed}: of several numbers one must be 'all'. Write for example 1, all.")
    return None, tuple(int(count) for count in counts if count != "all")


def _check(kind: str, names: Sequence[str], allowed: Sequence[str]) -> None:
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)
    if allowed[0] not in names or len(set(names)) != len(names):
        raise UserError(
            f"{kind}s must be distinct and have {allowed[0]} among them, which the others are compared with, "
            f"not {list(names)}."
        )
