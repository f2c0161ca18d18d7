"""Excess of agreement over an independent teacher, and methods against their random teachers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from kdbench.analysis.summary import Summary, summarise
from kdbench.analysis.transfer import EXCESS, against_random_teachers, transfers
from kdbench.column import Column

SCRATCH = (0.010, -0.004, 0.006)
KD = (0.052, 0.047, 0.060)
TOP1 = {"scratch": (0.80, 0.81, 0.79), "kd": (0.84, 0.86, 0.83), "kd (random teacher)": (0.80, 0.80, 0.80)}


@pytest.fixture
def controlled(
    write_records: Callable[..., Path], record: Callable[..., dict[str, Any]]
) -> Callable[..., Summary]:
    """A function that makes the summary of runs whose students have given excesses, by method."""

    def make(excess: dict[str, tuple[float | None, ...]]) -> Summary:
        records = [
            record(
                "student",
                "small",
                method,
                seed,
                control_of="kd" if "random" in method else None,
                metrics={EXCESS: value, "top1": TOP1[method][seed]},
                reasons={} if value is not None else {EXCESS: "the logits were not kept"},
            )
            for method, values in excess.items()
            for seed, value in enumerate(values)
        ]
        path = write_records(record("teacher", None, None, 0), *records)
        columns = json.loads((path / "columns.json").read_text())
        columns.append(Column(EXCESS, EXCESS, "fidelity", "higher").as_json())
        (path / "columns.json").write_text(json.dumps(columns))
        return summarise(path)

    return make


def test_excess_and_what_is_beyond_scratch_are_t_tests_over_the_seeds(
    controlled: Callable[..., Summary],
) -> None:
    scratch, kd = transfers(controlled({"scratch": SCRATCH, "kd": KD}))
    p = [stats.ttest_1samp(values, 0).pvalue for values in (SCRATCH, KD)]
    assert [scratch.excess.p, kd.excess.p] == pytest.approx(p)
    holm = multipletests(p, method="holm")[1]
    assert [scratch.excess.p_holm, kd.excess.p_holm] == pytest.approx(list(holm))
    assert (scratch.excess.verdict, kd.excess.verdict) == ("no difference shown", "better")
    assert kd.excess.difference == pytest.approx(sum(KD) / 3)
    low, high = stats.t.interval(0.95, 2, sum(KD) / 3, stats.sem(KD))
    assert (kd.excess.low, kd.excess.high) == pytest.approx((low, high))
    assert scratch.beyond is None and kd.beyond is not None
    paired = stats.ttest_rel(KD, SCRATCH)
    assert kd.beyond.p == pytest.approx(paired.pvalue) and kd.beyond.verdict == "better"


def test_what_cannot_be_tested_has_its_reason(controlled: Callable[..., Summary]) -> None:
    found = transfers(controlled({"scratch": (0.01,), "kd": (None,)}))
    assert [transfer.excess.difference for transfer in found] == [0.01, None]
    assert found[0].excess.reason == "one seed: a test needs at least two"
    assert found[1].excess.reason == "the logits were not kept"
    assert found[1].beyond is not None and found[1].beyond.reason == "the method has no value"


def test_equal_excesses_are_not_tested(controlled: Callable[..., Summary]) -> None:
    (kd,) = transfers(controlled({"kd": (0.02, 0.02, 0.02)}))
    assert kd.excess.difference == pytest.approx(0.02) and kd.excess.p is None and kd.excess.low is None
    assert kd.excess.reason == "the 3 differences are all equal: no variance to test against"
    assert kd.beyond is not None and kd.beyond.reason == "the run holds no scratch of small"


def test_a_run_without_an_independent_teacher_has_no_claims(summary_of: Callable[..., Summary]) -> None:
    summary = summary_of({("small", "scratch"): {0: 0.9, 1: 0.8}})
    assert transfers(summary) == [] and against_random_teachers(summary) == []


def test_a_method_is_compared_with_itself_under_a_random_teacher(controlled: Callable[..., Summary]) -> None:
    summary = controlled(dict.fromkeys(TOP1, (0.0, 0.0, 0.0)))
    (found,) = against_random_teachers(summary)
    assert (found.method, found.baseline, found.n) == ("kd", "kd (random teacher)", 3)
    p = stats.ttest_rel(TOP1["kd"], TOP1["kd (random teacher)"]).pvalue
    assert found.p == pytest.approx(p) and found.p_holm == pytest.approx(p), (
        "one comparison: Holm changes none"
    )
    assert found.verdict == "better"
