"""The models: a zoo by name, models from elsewhere, and the features that methods read from them."""

from kdbench.models.checkpoint import fitting_weights, load_checkpoint
from kdbench.models.features import FeatureReader, FeatureShapes, Outputs, Taps, feature_shapes, find_taps
from kdbench.models.registry import build_model, families, model_names

__all__ = [
    "FeatureReader",
    "FeatureShapes",
    "Outputs",
    "Taps",
    "build_model",
    "families",
    "feature_shapes",
    "find_taps",
    "fitting_weights",
    "load_checkpoint",
    "model_names",
]
