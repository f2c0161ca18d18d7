from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from kdbench.analysis.bootstrap import over_examples
from kdbench.analysis.comparison import compare_methods
from kdbench.analysis.crossed import over_seeds_and_examples
from kdbench.analysis.evidence import example_interval
from kdbench.analysis.mcnemar import mcnemar_over_seeds
from kdbench.analysis.power import detectable_difference
from kdbench.analysis.summary import Summary, summarise
from kdbench.column import Column
from kdbench.errors import UserError
from kdbench.store import OUTCOMES
from tests.documents import list_files

N = 400
LABELS = np.random.default_rng(0).integers(0, 4, N)
QUALITY = {"scratch": 0.80, "kd": 0.86, "at": 0.81}


def predictions(method: str, seed: int) -> np.ndarray:
    generator = np.random.default_rng([seed, len(method)])
    wrong = (LABELS + 1) % 4
    return np.where(generator.random(N) < QUALITY[method], LABELS, wrong)


def write_outcomes(folder: Path, predicted: np.ndarray, labels: np.ndarray = LABELS) -> None:
    frame = pd.DataFrame({"label": labels, "predicted": predicted}).astype("uint16")
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(folder / OUTCOMES, index=False)


def write_logits(folder: Path, predicted: np.ndarray) -> None:
    tensors = {"test_logits": np.eye(4, dtype=np.float32)[predicted], "test_labels": LABELS.astype(np.int32)}
    safetensors.numpy.save_file(tensors, folder / "predictions.safetensors")


Written = Callable[..., Summary]


@pytest.fixture
def run(write_records, record) -> Written:
    """A function that writes a run with outcomes: scratch, kd and at of one student."""

    def write(seeds=(0, 1, 2), methods=("scratch", "kd", "at"), store=write_outcomes, offset=0.0) -> Summary:
        records = [
            record(
                "student",
                "s",
                method,
                seed,
                metrics={"top1": float((predictions(method, seed) == LABELS).mean()) + offset},
            )
            for method in methods
            for seed in seeds
        ]
        path = write_records(*records)
        for entry in records:
            store(path / "cells" / entry["id"], predictions(entry["method"], entry["seed"]))
        return summarise(list_files(path))

    return write


def hits(method: str, seeds=(0, 1, 2)) -> np.ndarray:
    return np.array([predictions(method, seed) == LABELS for seed in seeds])


def test_the_evidence_is_of_the_stored_classes(run):
    kd, at = compare_methods(run())
    ours, theirs = hits("kd"), hits("scratch")
    differences = ours.astype(float) - theirs
    assert kd.examples.n == N
    assert (kd.examples.low, kd.examples.high) == over_examples(differences.mean(axis=0))
    both = over_seeds_and_examples(differences)
    assert (kd.examples.both_low, kd.examples.both_high) == (both.low, both.high)
    assert both.low <= kd.low < kd.high <= both.high
    assert kd.examples.p == mcnemar_over_seeds(ours, theirs)
    table = [[(a & b).sum() for b in (theirs[0], ~theirs[0])] for a in (ours[0], ~ours[0])]
    assert kd.examples.p_by_seed[0] == contingency_tables.mcnemar(table, exact=False, correction=True).pvalue
    corrected = multipletests([kd.examples.p, at.examples.p], method="holm")[1]
    assert [kd.examples.p_holm, at.examples.p_holm] == list(corrected)


def test_logits_of_an_older_run_say_the_same(run):
    summary = run(store=write_logits)
    assert summary.outcomes.hits(summary.students[1].ids[0], "top1").tolist() == hits("kd")[0].tolist()


def test_one_seed_has_evidence_of_its_models_only(run):
    (kd,) = compare_methods(run(seeds=(0,), methods=("scratch", "kd")))
    assert kd.p is kd.low is kd.detectable is kd.examples.both_low is None
    assert kd.examples.low is not None
    assert kd.examples.p == kd.examples.p_by_seed[0]
    assert kd.improvement is None


def test_the_smallest_difference_goes_by_the_first_step_of_holm(run):
    kd, at = compare_methods(run())
    for found in (kd, at):
        assert found.detectable == pytest.approx(detectable_difference(found.sd, 3, 0.05 / 2))


def test_equal_predictions_have_no_interval(run, monkeypatch):
    monkeypatch.setitem(QUALITY, "kd", 1.0)
    monkeypatch.setitem(QUALITY, "scratch", 1.0)
    (kd,) = compare_methods(run(methods=("scratch", "kd")))
    assert kd.examples.low is kd.examples.both_low is None
    assert kd.examples.both_reason == "the 3 differences by seed are all equal: no spread to estimate"
    assert kd.examples.p == 1


def test_a_difference_beyond_the_range_of_the_metric_cannot_be_shown(summary_of):
    """Two seeds that spread by half: δ = 0.35·18 is more than the 0.6 that lie above a top-1 of 0.4."""
    cells = {("s", "scratch"): {0: 0.3, 1: 0.5}, ("s", "kd"): {0: 0.3, 1: 1.0}}
    summary = summary_of(cells)
    (found,) = compare_methods(summary)
    assert detectable_difference(found.sd, 2, 0.05) > 2.5
    assert found.possible == pytest.approx(0.6)
    assert found.detectable is None and found.shows_nothing
    unbounded = replace(summary, columns={"top1": replace(summary.columns["top1"], range="")})
    assert compare_methods(unbounded)[0].detectable == detectable_difference(found.sd, 2, 0.05)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("[0, 1]", (0, 1)),
        ("[-1, 1]", (-1, 1)),
        ("(-∞, ∞)", (-math.inf, math.inf)),
        ("[0, ln 2]", (0, math.log(2))),
        ("[0, params]", (0, math.inf)),
        ("", (-math.inf, math.inf)),
    ],
)
def test_the_range_of_a_column_as_numbers(text, bounds):
    assert Column("x", "x", "task", "higher", range=text).bounds == bounds


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"store": lambda folder, predicted: None}, "holds no test predictions"),
        ({"offset": 0.01}, "stored predictions do not give the recorded top1"),
    ],
)
def test_what_is_not_stored_is_none_with_a_reason(run, arguments, reason):
    (kd,) = compare_methods(run(methods=("scratch", "kd"), **arguments))
    assert reason in kd.examples.reason
    assert kd.examples.p is kd.examples.p_holm is kd.examples.low is None
    assert kd.p is not None


def test_models_that_were_tested_on_other_examples_are_not_compared(run):
    summary = run(methods=("scratch", "kd"))
    cell = summary.students[1].ids[2]
    order = np.random.default_rng(1).permutation(N)
    write_outcomes(summary.run.folder(cell), predictions("kd", 2)[order], LABELS[order])
    (kd,) = compare_methods(summarise(list_files(summary.run.path)))
    assert kd.examples.reason == "the cells were tested on different examples"


def test_a_metric_that_is_no_share_of_examples_has_a_reason(write_records, record):
    cells = [
        record("student", "s", m, i, metrics={"nll": 0.1 * i}) for m in ("scratch", "kd") for i in (1, 2)
    ]
    (kd,) = compare_methods(summarise(write_records(*cells)), "nll")
    assert kd.examples.reason.startswith("nll is not a share of test examples")


def test_agreement_is_with_what_the_teacher_predicts(write_records, record):
    teacher, student = predictions("kd", 9), predictions("at", 0)
    value = float((teacher == student).mean())
    path = write_records(
        record("teacher", None, None, 0),
        record(
            "student",
            "s",
            "at",
            0,
            metrics={"agreement": value},
            config={"teacher": "teacher-None-None-0"},
        ),
    )
    write_outcomes(path / "teachers" / "teacher-None-None-0", teacher)
    write_outcomes(path / "cells" / "student-s-at-0", student)
    summary = summarise(list_files(path))
    found = summary.outcomes.hits("student-s-at-0", "agreement")
    assert found.tolist() == (teacher == student).tolist()
    low, high, reason = example_interval(summary.outcomes, summary.students[0], "agreement")
    assert low < value < high
    assert reason is None


def test_the_interval_of_a_row_is_over_its_examples(run):
    summary = run()
    found = example_interval(summary.outcomes, summary.students[0], "top1")
    assert found == (*over_examples(hits("scratch").mean(axis=0)), None)


@pytest.mark.parametrize(("wrong", "known"), [(0, False), (1, False), (4, False), (5, True), (200, True)])
def test_few_examples_that_differ_have_no_interval(write_records, record, wrong, known):
    path = write_records(record("student", "s", "kd", 0, metrics={"top1": 1 - wrong / N}))
    write_outcomes(
        path / "cells" / "student-s-kd-0", np.where(np.arange(N) < wrong, (LABELS + 1) % 4, LABELS)
    )
    summary = summarise(list_files(path))
    low, high, reason = example_interval(summary.outcomes, summary.students[0], "top1")
    assert (low is not None) == (high is not None) == (reason is None) == known
    if wrong in (1, 4):
        assert reason == f"{wrong} of 400 test examples score otherwise than the rest: too few to draw"


def test_a_better_loss_is_a_lower_one(summary_of):
    cells = {("s", "scratch"): {0: 0.9, 1: 0.8, 2: 1.0}, ("s", "kd"): {0: 0.7, 1: 0.71, 2: 0.75}}
    (found,) = compare_methods(summary_of(cells, "nll"), "nll")
    assert found.improvement == 1


@pytest.mark.parametrize(
    ("store", "name"), [(write_outcomes, OUTCOMES), (write_logits, "predictions.safetensors")]
)
def test_classes_that_changed_since_they_were_recorded_are_not_read(run, store, name):
    summary = run(store=store)
    id = summary.students[1].ids[0]
    file = summary.run.folder(id) / name
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(UserError, match=f"{name}: changed since it was recorded.* run the suite again"):
        summary.outcomes.hits(id, "top1")
