"""Targets: what a model must predict, how that is lost and scored; one file each."""

from kdbench.targets.target import (
    ROLES,
    TARGETS,
    USUAL,
    Labels,
    Tally,
    Target,
    find_target,
    target,
    target_of,
)

__all__ = ["ROLES", "TARGETS", "USUAL", "Labels", "Tally", "Target", "find_target", "target", "target_of"]
