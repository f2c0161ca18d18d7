"""Models before training: built once, to look at their shapes and to find what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from kdbench.errors import UserError
from kdbench.models import FeatureShapes, Taps, build_model, feature_shapes, find_taps, fitting_weights
from kdbench.models.features import run_blank
from kdbench.models.registry import Shape
from kdbench.suite import ModelEntry


@dataclass(frozen=True)
class Sketch:
    """A model as the plan knows it: its shapes, and the names and shapes of its weights."""

    taps: Taps
    shapes: FeatureShapes
    weights: tuple[tuple[str, tuple[int, ...]], ...]


def sketch_model(role: str, entry: ModelEntry, input_shape: Shape, classes: int) -> Sketch:
    """Build a model once and look at its shapes; what is wrong with it is found before anything trains."""
    try:
        model = build_model(entry.name, input_shape=input_shape, num_classes=classes, args=entry.args)
        logits = run_blank(model, input_shape)
        if logits.shape[1] != classes:
            raise UserError(f"it gives {logits.shape[1]} classes, the dataset has {classes}.")
        taps = _resolve_taps(model, entry, input_shape)
        shapes = feature_shapes(model, taps, input_shape)
    except UserError as error:
        raise UserError(f"{role} '{entry.shown}': {error}") from None
    if entry.checkpoint:
        fitting_weights(model, entry.checkpoint)
    weights = tuple((name, tuple(parameter.shape)) for name, parameter in model.named_parameters())
    return Sketch(taps, shapes, weights)


def _resolve_taps(model: nn.Module, entry: ModelEntry, input_shape: Shape) -> Taps:
    """Return the taps that a suite names, completed by those that are found."""
    found = find_taps(model, input_shape)
    if entry.taps is None:
        return found
    return Taps(
        stages=found.stages if entry.taps.stages is None else entry.taps.stages,
        pooled=found.pooled if entry.taps.pooled is None else entry.taps.pooled,
    )
