"""The memory that a cohort takes, as a column of its students."""

from __future__ import annotations

from collections.abc import Callable

import torch

from kdbench.efficiency.peak import watch
from kdbench.errors import UserError
from kdbench.runner.records import COHORT_MEMORY
from kdbench.runner.scores import Scores


class Peak:
    """The memory that a cohort takes, from before its students are built to the end of their training."""

    def __init__(self, device: torch.device) -> None:
        """Begin to watch."""
        try:
            self._told: Callable[[], int] | str = watch(device)
        except UserError as error:
            self._told = str(error)

    def scores(self) -> Scores:
        """Return the column of the memory that was taken so far."""
        name = COHORT_MEMORY.name
        if isinstance(self._told, str):
            return Scores({name: None}, {name: self._told})
        try:
            return Scores({name: self._told()})
        except UserError as error:
            return Scores({name: None}, {name: str(error)})
