"""A network rebuilt from decisions: what compressors decided about it, applied in order.

Loading any network is: build, apply every decision in order, weights, finish. Weights come before the finish,
since they are those that trained: what is finished (converted to int8, say) need not be able to take them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kdbench.code.foreign import foreign
from kdbench.deferred import nn
from kdbench.errors import UserError, in_words
from kdbench.methods.compressor import Compressor, Decision, find_step
from kdbench.registry import place_of
from kdbench.shared_state import kept_settings


@dataclass(frozen=True)
class Decided:
    """What one compressor decided: its name or reference, its hyper-parameters, and the decision."""

    method: str
    hyper: Mapping[str, Any]
    decision: Decision

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a plain dictionary."""
        return asdict(self)

    def compressor(self) -> Compressor:
        """Return the compressor; raises UserError where it is not there any more."""
        registered = find_step(self.method)
        compressor: Compressor = registered.step(registered.parameters(**self.hyper))
        return compressor


def restructured(model: nn.Module, decisions: Iterable[Decided]) -> tuple[nn.Module, tuple[Compressor, ...]]:
    """Return the network that decisions make of a model, which may be changed in place, and who holds it."""
    holders = []
    with kept_settings():
        for decided in decisions:
            compressor = decided.compressor()
            model = applied(compressor, model, decided.decision)
            holders.append(compressor)
    return model, tuple(holders)


def applied(compressor: Compressor, model: nn.Module, decision: Decision) -> nn.Module:
    """Return what a compressor makes of a model; raises UserError in one line where it fails to."""
    from torch import nn

    place = place_of(type(compressor))
    try:
        with foreign(f"apply() of the compressor at {place}"):
            changed = compressor.apply(model, decision)
    except UserError:
        raise
    except Exception as error:  # a compressor of a user's own may raise anything
        text = in_words(error)
        raise UserError(
            f"apply() of the compressor at {place} failed: {type(error).__name__}: {text}."
        ) from error
    if not isinstance(changed, nn.Module):
        raise UserError(
            f"apply() of the compressor at {place} returned {type(changed).__name__}: return the network."
        )
    return changed


def as_decided(compressor: Compressor, decision: Any) -> Decision:
    """Return a decision as it is read back; raises UserError for what is no JSON."""
    try:
        again: Decision = json.loads(json.dumps(decision, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"decide() of the compressor at {place_of(type(compressor))} returned what is no JSON ({error}): "
            "return numbers, texts, lists and dictionaries with names."
        ) from None
    return again


def finishes(compressors: Iterable[Compressor]) -> bool:
    """Return whether what is deployed is another network than what trains."""
    return any(type(compressor).finish is not Compressor.finish for compressor in compressors)


def finished(model: nn.Module, compressors: Iterable[Compressor]) -> nn.Module:
    """Return what is deployed of a network, which may be changed in place."""
    with kept_settings():
        for compressor in compressors:
            model = compressor.finish(model)
    return model
