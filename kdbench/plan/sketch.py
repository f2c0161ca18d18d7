"""Models before training: looked at once, to know their shapes and to find what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdbench.entries import ModelEntry
from kdbench.errors import UserError
from kdbench.models.index import CLASSES, INPUT_SHAPE, Sketch, indexed, sketch_of
from kdbench.models.shapes import Shape, Taps

if TYPE_CHECKING:
    from torch import nn


class Sketches:
    """The models of a suite, at the shape of its images and its number of classes."""

    def __init__(self, input_shape: Shape, classes: int) -> None:
        """Start with none."""
        self._input_shape = input_shape
        self._classes = classes
        self._known: dict[str, Sketch] = {}
        self._remarks: dict[str, list[str]] = {}

    def of(self, role: str, entry: ModelEntry) -> Sketch:
        """Return the sketch of a model; raises UserError, naming its role, where it cannot be used."""
        key = entry.model_dump_json(include={"name", "args", "checkpoint", "taps"})
        if key not in self._known:
            try:
                self._known[key] = self._from_index(entry) or self._built(role, entry)
            except UserError as error:
                raise UserError(f"{role} '{entry.shown}': {error}") from None
        return self._known[key]

    def remarks(self) -> list[str]:
        """Return what a person should know of the models, a line each."""
        return [f"{model}: {remark}" for model, remarks in self._remarks.items() for remark in remarks]

    def _from_index(self, entry: ModelEntry) -> Sketch | None:
        """Return what is known of a plain model of the zoo: neither torch nor the model is needed then."""
        if entry.args or entry.checkpoint or entry.taps:
            return None
        if (tuple(self._input_shape), self._classes) != (INPUT_SHAPE, CLASSES):
            return None
        found = indexed(entry.name)
        return found.sketch if found else None

    def _built(self, role: str, entry: ModelEntry) -> Sketch:
        from kdbench.models import build_model, feature_shapes, load_checkpoint
        from kdbench.models.features import run_blank

        model = build_model(
            entry.reference, input_shape=self._input_shape, num_classes=self._classes, args=entry.args
        )
        logits = run_blank(model, self._input_shape)
        if logits.shape[1] != self._classes:
            raise UserError(f"it gives {logits.shape[1]} classes, the dataset has {self._classes}.")
        taps = _resolve_taps(model, entry, self._input_shape)
        shapes = feature_shapes(model, taps, self._input_shape)
        if entry.checkpoint:
            self._remarks[f"{role} '{entry.shown}'"] = list(load_checkpoint(model, entry.checkpoint))
        return sketch_of(model, taps, shapes)


def _resolve_taps(model: nn.Module, entry: ModelEntry, input_shape: Shape) -> Taps:
    """Return the taps that a suite names, completed by those that are found."""
    from kdbench.models import find_taps

    found = find_taps(model, input_shape)
    if entry.taps is None:
        return found
    return Taps(
        stages=found.stages if entry.taps.stages is None else entry.taps.stages,
        pooled=found.pooled if entry.taps.pooled is None else entry.taps.pooled,
    )
