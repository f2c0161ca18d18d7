"""The models: a zoo by name, models from elsewhere, and the features that methods read from them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kdbench.models.shapes import FeatureShapes, Outputs, Shape, Taps

if TYPE_CHECKING:
    from kdbench.models.checkpoint import load_checkpoint
    from kdbench.models.features import FeatureReader, feature_shapes, find_taps
    from kdbench.models.registry import build_model, families, model_names

__all__ = [
    "FeatureReader",
    "FeatureShapes",
    "Outputs",
    "Shape",
    "Taps",
    "build_model",
    "families",
    "feature_shapes",
    "find_taps",
    "load_checkpoint",
    "model_names",
]

# Imported when first used, since all of it needs torch.
_HOMES = {
    "FeatureReader": "features",
    "build_model": "registry",
    "families": "registry",
    "feature_shapes": "features",
    "find_taps": "features",
    "load_checkpoint": "checkpoint",
    "model_names": "registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"kdbench.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
