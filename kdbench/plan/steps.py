"""The steps that make a node out of its inputs: training, compressing, loading."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdbench.methods import Distiller, Method, Pair, Parameters
from kdbench.methods.compressor import Compressor
from kdbench.suite.schema import Recipe


@dataclass(frozen=True)
class Training:
    """A step that trains: by a method, against a teacher or alone.

    With ``shuffled`` the teacher's logits are shown in random order: the control that knows nothing.
    """

    method: Method
    hyper: Parameters
    recipe: Recipe
    pair: Pair
    shuffled: bool = False

    @property
    def distiller(self) -> type[Distiller]:
        """The class of the method."""
        return self.method.distiller


@dataclass(frozen=True)
class Compression:
    """A step that changes a trained network without training it."""

    method: Method
    hyper: Parameters

    @property
    def compressor(self) -> type[Compressor]:
        """The class of the method."""
        return self.method.step


@dataclass(frozen=True)
class Loading:
    """A step that takes weights from a file."""

    checkpoint: Path


Step = Training | Compression | Loading
