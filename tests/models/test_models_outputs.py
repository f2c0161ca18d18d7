"""What networks return: one rule takes the logits out of it, and says what has none."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch

from kdbench.models.outputs import NoLogits, logits_of

LOGITS = torch.arange(6.0).view(2, 3)
OTHER = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        (LOGITS, OTHER),
        [LOGITS],
        (None, LOGITS, OTHER),
        {"features": OTHER, "logits": LOGITS},
        OrderedDict(logits=LOGITS, hidden_states=None),
        SimpleNamespace(loss=OTHER, logits=LOGITS),
        namedtuple("Aux", ("aux_logits", "logits"))(OTHER, LOGITS),
    ],
)
def test_logits_are_taken_out_of_what_holds_them(output: object) -> None:
    assert logits_of(output) is LOGITS


@pytest.mark.parametrize(
    ("output", "what"),
    [
        ({"out": LOGITS, "aux": OTHER}, "dict with out, aux"),
        ((), "tuple of 0"),
        (None, "NoneType"),
        ({"logits": 3}, "dict with logits"),
        (SimpleNamespace(loss=LOGITS), "SimpleNamespace"),
    ],
)
def test_what_holds_none_is_described(output: object, what: str) -> None:
    with pytest.raises(NoLogits, match=rf"the attribute \.logits; it returned {what}$"):
        logits_of(output)
