"""The benchmark of scoring gives every metric what it needs, and says what it took."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from benchmarks import scoring
from kdbench.metrics import catalogue
from kdbench.targets import find_target


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


COUNT = len(catalogue(find_target("single_label")))


def test_every_metric_is_scored(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["scoring.py", "--examples", "200", "--classes", "12", "--threads", "1"]
    monkeypatch.setattr("sys.argv", [*arguments, "--json"])
    scoring.main()
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"] == COUNT
    assert found["without_value"] == {}
    assert 0 < found["inputs_gib"] + 0.01 < found["peak_gib"]
    monkeypatch.setattr("sys.argv", arguments)
    scoring.main()
    assert (
        f"{len(catalogue(find_target('single_label')))} metrics of 200 x 12 logits, 1 threads"
        in capsys.readouterr().out
    )
