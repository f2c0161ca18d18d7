"""What a model gives: the names of its taps, its outputs, and their shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from kdbench.deferred import Tensor

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Taps:
    """The dotted names of the modules to tap: outputs of ``stages``, the input of ``pooled``."""

    stages: tuple[str, ...] = ()
    pooled: str | None = None


@dataclass
class Outputs:
    """What one forward pass gives: logits (B, K), pooled features (B, D), stages, from input to output.

    A stage is (B, C, H, W) for a convolutional network and (B, N, D) for a transformer. All are float32.
    """

    logits: Tensor
    pooled: Tensor | None = None
    stages: tuple[Tensor, ...] = ()

    def copied(self) -> Outputs:
        """Return the same values in memory of their own."""
        pooled = None if self.pooled is None else self.pooled.clone()
        return Outputs(self.logits.clone(), pooled, tuple(stage.clone() for stage in self.stages))


@dataclass(frozen=True)
class FeatureShapes:
    """The shapes of a model's outputs without the batch dimension."""

    logits: tuple[int, ...]
    pooled: tuple[int, ...] | None
    stages: tuple[tuple[int, ...], ...]


def map_shape(stage: tuple[int, ...]) -> tuple[int, int, int] | None:
    """Return a stage's shape (C, H, W) as a map; None where its tokens are no square."""
    if len(stage) == 3:
        return stage[0], stage[1], stage[2]
    tokens, width = stage
    for count in (tokens, tokens - 1):
        side = math.isqrt(count)
        if side * side == count:
            return width, side, side
    return None


def as_map(stage: Tensor) -> Tensor:
    """Return a stage (B, C, H, W), or (B, N, D) of a transformer, as a map (B, C, H, W)."""
    if stage.dim() == 4:
        return stage
    shape = map_shape(tuple(stage.shape[1:]))
    assert shape is not None  # require_stages has refused such tokens
    width, height, side = shape
    tokens = stage[:, stage.shape[1] - height * side :]  # a class token comes first
    return tokens.transpose(1, 2).reshape(len(stage), width, height, side)
