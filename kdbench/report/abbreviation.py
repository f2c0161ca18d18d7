"""Labels too long for their place, cut so that no two become one; tables and figures share it."""

from __future__ import annotations

from collections.abc import Sequence


def shorten_labels(labels: Sequence[str], limit: int) -> list[str]:
    """Return labels cut in the middle to ``limit`` characters; all stay whole where two would become one."""
    head = (limit - 1) // 2
    tail = limit - 1 - head
    short = [t if len(t) <= limit else f"{t[:head]}…{t[-tail:]}" for t in labels]
    return short if len(set(short)) == len(set(labels)) else list(labels)
