"""How much memory a dataset takes, known before it is read, and which of its splits that leaves on disk."""

from __future__ import annotations

from dataclasses import dataclass

from kdbench.data.augment import Augment
from kdbench.data.dataset import Extent
from kdbench.inputs import IMAGE, InputSpec
from kdbench.memory import as_text

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Footprint:
    """What a dataset comes to in memory.

    ``train`` and ``held_out`` are the bytes of pixels and other fields that ``Batches`` holds for training,
    and for validation and test; ``train_examples`` counts the training examples without the validation part.
    ``streams``: they can be read from disk in every pass instead.
    """

    train: int
    held_out: int
    train_examples: int
    streams: bool

    @property
    def total(self) -> int:
        """Bytes of all splits."""
        return self.train + self.held_out

    def streamed(self, budget: int | None) -> tuple[str, ...]:
        """Return the splits that stay on disk under a budget in bytes; None is no limit.

        Validation and test are read most often, for every student on its own: where they fit they are in
        memory, and train alone is streamed.
        """
        if budget is None or not self.streams or self.total <= budget:
            return ()
        return SPLITS[:1] if self.held_out <= budget else SPLITS

    def text(self, name: str, budget: int) -> str:
        """Return one line that says which way a dataset goes under a budget."""
        pixels = f"{name}: {as_text(self.total)} of pixels"
        if self.total <= budget:
            return f"{pixels}, in memory (budget {as_text(budget)})."
        over = f"{pixels} is over the budget of {as_text(budget)}"
        if not self.streams:
            return f"{over}, but goes in memory: only images in folders or parquet files can be streamed."
        if self.streamed(budget) == SPLITS:
            return f"{over}: streamed from disk."
        return f"{over}: train is streamed from disk, the rest ({as_text(self.held_out)}) is in memory."


def footprint(inputs: InputSpec, extent: Extent, validation_fraction: float, augment: Augment) -> Footprint:
    """Return what the inputs of a dataset come to in memory.

    Training images carry a margin of ``crop_padding`` on each side, and with ``flip`` are held mirrored as
    well.
    """
    channels, height, width = inputs.fields[IMAGE].shape if IMAGE in inputs.fields else (0, 0, 0)
    beside = sum(field.bytes for name, field in inputs.fields.items() if name != IMAGE)
    margin = 2 * augment.crop_padding
    train, validation = extent.train, extent.validation
    if not validation_fraction:
        validation = 0
    elif not validation:
        validation = round(validation_fraction * train)
        train -= validation
    copies = 2 if augment.flip else 1
    return Footprint(
        train=train * (copies * (height + margin) * (width + margin) * channels + beside),
        held_out=(validation + extent.test) * (height * width * channels + beside),
        train_examples=train,
        streams=extent.streams,
    )
