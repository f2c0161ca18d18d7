"""Whether a method can work with a pair, from what it declares and what it says itself."""

from __future__ import annotations

from typing import Any

from kdbench.methods.alignment import require_pooled, require_stages
from kdbench.methods.base import Distiller, Pair, Refusal


def check_pair(distiller: type[Distiller], hyper: Any, pair: Pair) -> None:
    """Raise Refusal with the reason where a method cannot work with a pair.

    Its ``targets`` are looked at first, then what it ``requires`` of both models, then its own ``check``.
    """
    if distiller.targets is not None and pair.target not in distiller.targets:
        kinds = " and ".join(sorted(distiller.targets))
        raise Refusal(f"it is for {kinds} data, and student '{pair.student}' is to learn {pair.target} data")
    required = distiller.requires(hyper)
    if "stages" in required:
        require_stages(pair)
    if "pooled" in required:
        require_pooled(pair)
    distiller.check(hyper, pair)
