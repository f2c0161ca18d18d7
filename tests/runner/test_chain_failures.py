"""Chains of which a link fails: what comes after it fails with the reason, and nothing else does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.runner import run
from kdbench.store import Record, RunDirectory, check
from kdbench.suite import Suite

Load = Callable[..., Suite]
OWN = """
from kdbench.methods.compressor import Compressor, compressor


@compressor("spoil", title="spoils", source="this file", year=2026)
class Spoil(Compressor):
    def decide(self, model, batches):
        return {}

    def apply(self, model, decision):
        model.head.weight.data.fill_(float("nan"))
        return model


@compressor("refuse", title="raises", source="this file", year=2026)
class Refuse(Compressor):
    def decide(self, model, batches):
        raise ValueError("my own mistake")

    def apply(self, model, decision):
        return model


@compressor("look", title="keeps what it was shown", source="this file", year=2026)
class Look(Compressor):
    data = "calibration"

    def decide(self, model, batches):
        (shown,) = batches
        return {"training": model.training, "shape": list(shown.shape), "mean": float(shown.mean())}

    def apply(self, model, decision):
        return model
"""
SMALL = ("seeds=[0]", "recipe.epochs=1", "teachers.0.recipe.epochs=1")


def by_method(path: Path) -> dict[str | None, Record]:
    return {record.method: record for record in RunDirectory(path).records()}


def test_what_begins_from_a_training_that_diverged_fails_with_its_reason(
    small_suite: Load, tmp_path: Path
) -> None:
    suite = small_suite(
        "students=[{name: mlp_16, recipe: {lr: 1.0e+30}}, teacher]",
        "methods=[kd, {chain: [kd, prune_magnitude, kd], label: chain, students: [mlp_16]}]",
        *SMALL,
    )
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (1, 2)
    failed = check(outcome.path)
    assert len(failed) == 3 and all(finding.problem.startswith("failed: ") for finding in failed)
    chain = by_method(outcome.path)["chain"]
    assert chain.status == "failed" and "diverged" in chain.reason and "\n" not in chain.reason
    assert run(suite, outcome.path).failed == 2, "it is not made again unless that is asked for"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Spoil", r"weight 'head\.weight' is not finite \(NaN; 160 of 160 values\)"),
        ("Refuse", "ValueError: my own mistake"),
    ],
)
def test_a_compressor_that_fails_takes_its_own_cells_along_only(
    small_suite: Load, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = f"{tmp_path}/own.py:{name}"
    suite = small_suite(
        "students=[teacher]",
        f"methods=[{{name: '{own}', label: alone}}, {{chain: ['{own}', kd], label: chain}}, cast]",
        *SMALL,
    )
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (1, 2)
    records = by_method(outcome.path)
    for label in ("alone", "chain"):
        assert records[label].status == "failed"
        assert re.search(reason, records[label].reason), records[label].reason
        assert "lower its lr" not in records[label].reason.lower()
    assert records["cast"].status == "ok"
    assert {finding.problem.partition(":")[0] for finding in check(outcome.path)} == {"failed"}


def test_a_compressor_is_shown_the_training_images_that_it_asks_for(
    small_suite: Load, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN)
    suite = small_suite(
        "students=[teacher]", f"methods=[{{name: '{tmp_path}/own.py:Look', label: look}}]", *SMALL
    )
    directory = RunDirectory(run(suite, tmp_path / "run").path)
    look = by_method(directory.path)["look"]
    decision = (directory.folder(look.id) / "decision.json").read_text()
    # All 240 images of the training split, normalised: their mean is zero.
    assert '"shape":[240,1,8,8]' in decision and '"training":false' in decision
    assert abs(float(decision.partition('"mean":')[2].partition(",")[0])) < 1e-3
    assert look.metrics["agreement"] == 1, "the network is the teacher's own"
