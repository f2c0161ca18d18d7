"""What a seed may be: a whole number from 0 to 2⁶³ − 2."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _no_boolean(value: Any) -> Any:
    """Return a value that is no boolean, which would count as 0 or 1; raises ValueError for one that is."""
    if isinstance(value, bool):
        raise ValueError("a seed is a whole number")
    return value


# Records hold 64-bit integers, also of the seed after it, which is that of an independent teacher.
Seed = Annotated[int, BeforeValidator(_no_boolean), Field(ge=0, lt=2**63 - 1)]
