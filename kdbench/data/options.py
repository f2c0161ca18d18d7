"""The arguments that a suite may give to a dataset, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdbench.data.splits import balanced
from kdbench.errors import UserError, unknown
from kdbench.inputs import IMAGE, Field, InputSpec
from kdbench.suite.plain import LARGEST, shown

# Pixels of a side; what is taken off pixels from 0 to 1, and what they are divided by.
WIDEST = 8192
MOST_LEVEL, LEAST_STD = 1e6, 1e-6
COMMON = ("size", "channels", "limit", "limit_test", "mean", "std")


@dataclass(frozen=True)
class Options:
    """Arguments that every source of images takes, and in ``own`` those of one source only.

    A suite writes them as ``args: {size: 32, limit: 5000, limit_test: 1000, mean: [0.5], std: [0.5]}``.
    ``size``: every image is resized to size × size (bilinear). ``channels``: 1 (luma) or 3 (grey is
    repeated). ``limit``, ``limit_test``: at most so many training (validation part included) and test
    examples, balanced over the classes. ``mean``, ``std``: one number a channel, for pixels scaled
    to [0, 1], in place of those of the training part (which ``limit`` makes smaller).
    """

    size: int | None = None
    channels: int | None = None
    limit: int | None = None
    limit_test: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, args: Mapping[str, Any], own: Sequence[str] | None) -> Options:
        """Check the arguments of a dataset; ``own`` names the source's own ones, None lets any through.

        Raises UserError for an unknown name (with the nearest right one) or a value out of range.
        """
        extra = {name: value for name, value in args.items() if name not in COMMON}
        if own is not None:
            for name in extra:
                if name not in own:
                    raise unknown("dataset argument", name, [*COMMON, *own])
        options = cls(
            size=_count("size", args.get("size"), WIDEST),
            channels=_count("channels", args.get("channels")),
            limit=_count("limit", args.get("limit")),
            limit_test=_count("limit_test", args.get("limit_test")),
            mean=_numbers("mean", args.get("mean")),
            std=_numbers("std", args.get("std")),
            own=extra,
        )
        if options.channels not in (None, 1, 3):
            raise UserError(f"dataset argument channels is {options.channels}: give 1 (grey) or 3 (RGB).")
        if options.std is not None and min(options.std) < LEAST_STD:
            raise UserError(
                f"dataset argument std is {list(options.std)}: every entry must be above 0, "
                f"{LEAST_STD} at least."
            )
        return options

    def kept(self, split: str, strata: NDArray[np.int64], count: int) -> NDArray[np.intp] | None:
        """Return the rows of a source's split that the limits keep, or None where they keep all.

        They hold the ``count`` strata, by which each example (N,) has its number, as evenly as they can.
        Raises UserError for a limit that does not leave one example a stratum.
        """
        name, limit = {"train": ("limit", self.limit), "test": ("limit_test", self.limit_test)}.get(
            split, ("", None)
        )
        if limit is None or limit >= len(strata):
            return None
        if limit < count:
            raise UserError(
                f"dataset argument {name} is {limit}: give at least one example a class ({count})."
            )
        return balanced(strata, limit)

    def fit(self, inputs: InputSpec) -> InputSpec:
        """Return inputs with the image that the arguments ask for.

        Raises UserError for arguments of images where there is none, and unless ``mean`` and ``std``, where
        they are there, have one entry a channel.
        """
        image = inputs.fields.get(IMAGE)
        if image is None:
            for name in ("size", "channels", "mean", "std"):
                if getattr(self, name) is not None:
                    raise UserError(f"dataset argument {name} is for images, and the dataset has none.")
            return inputs
        channels, height, width = image.shape
        channels = self.channels or channels
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != channels:
                raise UserError(
                    f"dataset argument {name} has {len(values)} entries for images of {channels} "
                    f"channel{'s' if channels > 1 else ''}: give one number a channel."
                )
        shape = (channels, self.size or height, self.size or width)
        return InputSpec({**inputs.fields, IMAGE: Field(shape)})


def _count(name: str, value: Any, most: int = LARGEST) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"dataset argument {name} is {shown(value)}: give a whole number of at least 1.")
    if value > most:
        raise UserError(f"dataset argument {name} is {shown(value)}: give {most} at most.")
    return value


def _numbers(name: str, value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    good = [type(x) in (int, float) and abs(x) <= MOST_LEVEL for x in numbers]
    if not numbers or not all(good):
        raise UserError(
            f"dataset argument {name} is {shown(value)}: give a list of numbers, one a channel, for pixels "
            "from 0 to 1."
        )
    return tuple(float(x) for x in numbers)
