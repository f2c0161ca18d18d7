"""How a student is made: one small file a method, all under the contract of ``base``."""

from kdbench.methods.base import (
    Batch,
    Distiller,
    Method,
    Networks,
    Pair,
    Parameters,
    Refusal,
    find_method,
    method,
    methods,
)
from kdbench.methods.combined import Combined
from kdbench.methods.conditions import check_pair
from kdbench.models.shapes import FeatureShapes, Outputs

__all__ = [
    "Batch",
    "Combined",
    "Distiller",
    "FeatureShapes",
    "Method",
    "Networks",
    "Outputs",
    "Pair",
    "Parameters",
    "Refusal",
    "check_pair",
    "find_method",
    "method",
    "methods",
]
