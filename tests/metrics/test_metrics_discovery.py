"""A metric is one new file: it is found, listed and scored; and what docstrings show is true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import kdbench.metrics
from kdbench.metrics import METRICS, catalogue, score
from kdbench.metrics.document import README, document
from tests.registries import reopen

USER_FILE = '''
from torch import Tensor

from kdbench.metrics import Undefined, metric


@metric("top_margin", title="Margin", family="calibration", direction="none", range="[0, 1]", source="user")
def top_margin(log_probs: Tensor) -> float:
    """Return the mean gap between the two highest probabilities."""
    if log_probs.shape[1] < 2:
        raise Undefined("one class has no margin")
    first, second = log_probs.exp().topk(2, dim=1).values.unbind(1)
    return float((first - second).mean())
'''


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "user_margin.py").write_text(USER_FILE)
    monkeypatch.setattr(kdbench.metrics, "__path__", [*kdbench.metrics.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    yield
    del sys.modules["kdbench.metrics.user_margin"]
    del kdbench.metrics.user_margin


@pytest.mark.usefixtures("user_file")
def test_a_new_file_in_the_package_is_a_new_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "top_margin" not in catalogue()
    reopen(METRICS, monkeypatch)
    logits = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]).log()
    assert score({"logits": logits})[0]["top_margin"] == pytest.approx(0.4, abs=1e-6)
    assert score({"logits": logits[:, :1]})[1]["top_margin"] == "one class has no margin"
    names = list(catalogue())
    assert names.index("ece") < names.index("top_margin") < names.index("agreement")


MODULES = [entry.name for entry in pkgutil.iter_modules(kdbench.metrics.__path__) if entry.name != "__main__"]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_docstrings_are_true(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"kdbench.metrics.{module}"))
    assert results.failed == 0
    assert results.attempted > 0


def test_the_table_of_metrics_is_current() -> None:
    """Write it anew with `python -m kdbench.metrics`."""
    assert README.read_text() == document()


def test_the_table_says_of_every_metric_what_it_is() -> None:
    text = document()
    for name, column in catalogue().items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        _, definition, span, _, source = (cell.strip() for cell in line.strip("|").split(" | "))
        assert len(definition) > 20 and "Shapes" not in definition
        assert span.startswith(column.range) and source == column.source
        assert ("↑" in line.split("|")[1]) == (column.direction == "higher")


def test_every_metric_shows_an_example() -> None:
    missing = [name for name, entry in METRICS.all().items() if ">>>" not in (entry.function.__doc__ or "")]
    assert missing == []
