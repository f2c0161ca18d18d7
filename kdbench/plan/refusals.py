"""Why a link of a chain cannot follow what is before it."""

from __future__ import annotations

from kdbench.methods import Refusal
from kdbench.plan.nodes import Node
from kdbench.plan.variants import Variant

NOTHING_TRAINED = (
    "it changes a trained network, and the student has fresh weights: name 'teacher' as its student, or put "
    "a method that trains before it in a chain"
)


def fault_of_link(variant: Variant, place: int, start: Node | None) -> str | None:
    """Return what speaks against a link at its place, beginning from a node; None where nothing does."""
    before, link = variant.links[place - 1] if place else None, variant.links[place]
    if before and not before.registered.trains and before.registered.step.last:
        return f"{before.name} ends a chain: no later step can train or change what it makes"
    if link.registered.trains:
        return None
    if start is None:
        return NOTHING_TRAINED
    try:
        link.registered.step.check(link.hyper, start.sketch)
    except Refusal as reason:
        return str(reason)
    return None


def in_chain(variant: Variant, place: int, fault: str | None) -> str | None:
    """Return a fault with the link that it is about, where there are several."""
    if fault is None or len(variant.links) == 1:
        return fault
    return f"link {place + 1} ({variant.links[place].name}): {fault}"
