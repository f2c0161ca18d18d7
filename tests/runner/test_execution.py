"""Carrying out a plan: what a run leaves of its caller's settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdbench.errors import UserError
from kdbench.runner import execution, run
from kdbench.suite import Suite


@pytest.mark.parametrize("failing", [False, True])
def test_a_run_leaves_the_threads_of_its_caller_as_they_were(
    failing: bool, small_suite: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def carry_out(self: Any, *arguments: Any) -> str:
        seen.append(torch.get_num_threads())
        if failing:
            raise UserError("no")
        return "done"

    monkeypatch.setattr(execution._Run, "carry_out", carry_out)
    before = torch.get_num_threads()
    try:
        run(small_suite(f"threads={before + 1}"), tmp_path / "run")
    except UserError:
        assert failing
    assert seen == [before + 1] and torch.get_num_threads() == before
