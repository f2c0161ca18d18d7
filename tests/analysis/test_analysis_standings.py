from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kdbench.analysis.standings import standings
from kdbench.analysis.summary import summarise
from kdbench.errors import UserError

GAINS = {"scratch": 0.0, "kd": 0.02, "at": 0.01, "crd": 0.03}


def value(student: str, method: str, seed: int) -> float:
    noise = np.random.default_rng([len(method), seed, ord(student)]).normal(0, 0.002)
    return 0.7 + 0.01 * ord(student) / 10 + GAINS[method] + noise


@pytest.fixture
def run(record, tmp_path):
    """A function that writes a run of the given students and methods."""

    def write(name="one", students="abcd", methods=tuple(GAINS), dataset="digits", seeds=(0, 1, 2), skip=()):
        path = tmp_path / name
        manifest = {"suite": name, "dataset": dataset, "teachers": [], "cells": [], "sizes": {"test": 100}}
        for student in students:
            for method in methods:
                for seed in seeds if (student, method) not in skip else ():
                    cell = record(
                        "student",
                        student,
                        method,
                        seed,
                        id=f"{dataset}-{student}-{method}-{seed}",
                        metrics={"top1": value(student, method, seed)},
                        config={"method": {"name": method}},
                    )
                    _write(path / "cells" / cell["id"] / "record.json", cell)
                    manifest["cells"].append(cell["id"])
        columns = [
            {"name": "top1", "title": "Top-1", "family": "task", "direction": "higher"},
            {"name": "both_right", "title": "Both right", "family": "fidelity", "direction": "none"},
        ]
        _write(path / "columns.json", columns)
        _write(path / "run.json", manifest)
        return summarise(path)

    return write


def _write(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_methods_are_ranked_by_their_means_over_seeds(run):
    found = standings([run()])
    assert found.ranking.methods == ("crd", "kd", "at", "scratch")
    assert found.ranking.mean_ranks == (1, 2, 3, 4)
    # Ranks that never vary give Friedman's statistic its largest value, N(k − 1).
    assert found.ranking.statistic == pytest.approx(12)
    assert found.ranking.p == pytest.approx(stats.chi2.sf(12, 3))
    assert [row.method for row in found.rows] == list(found.ranking.methods)
    assert found.left_out == found.cautions == ()


def test_interquartile_means_and_probabilities_are_over_students_and_seeds(run):
    found = {row.method: row for row in standings([run()]).rows}
    scores = [value(student, "kd", seed) for student in "abcd" for seed in range(3)]
    assert found["kd"].iqm.mean == pytest.approx(stats.trim_mean(scores, 0.25))
    assert found["kd"].iqm.low < found["kd"].iqm.mean < found["kd"].iqm.high
    assert found["kd"].improvement.mean == 1
    assert found["scratch"].improvement.mean is None
    assert found["scratch"].improvement.reason == "it is scratch"


def test_relative_improvement_is_over_kd(run):
    found = {row.method: row for row in standings([run()]).rows}
    means = {
        (student, method): np.mean([value(student, method, seed) for seed in range(3)])
        for student in "abcd"
        for method in GAINS
    }
    shares = [(means[s, "crd"] - means[s, "kd"]) / (means[s, "kd"] - means[s, "scratch"]) for s in "abcd"]
    assert found["crd"].ari == pytest.approx(np.mean(shares))
    assert found["crd"].ari_reason is None
    assert found["kd"].ari is None


def test_relative_improvement_is_flagged_where_kd_gains_little(run, monkeypatch):
    monkeypatch.setitem(GAINS, "kd", 0.004)
    unstable = {row.method: row for row in standings([run()]).rows}["crd"]
    assert unstable.ari > 1
    assert unstable.ari_reason.startswith("ARI is unstable: what kd gains is not told from zero for")
    monkeypatch.setitem(GAINS, "kd", -0.01)
    senseless = {row.method: row for row in standings([run("two")]).rows}["crd"]
    assert senseless.ari is None
    assert senseless.ari_reason == "ARI has no meaning: kd gains nothing over scratch for a, b, c, d"


def test_several_runs_count_each_dataset_once_beside(run):
    runs = [run("one", "ab", dataset="x"), run("two", "cd", dataset="y"), run("three", "ef", dataset="z")]
    found = standings(runs)
    assert len(found.tasks) == 6
    assert found.datasets == ("x", "y", "z")
    assert (found.ranking.blocks, found.by_dataset.blocks) == (6, 3)
    assert found.by_dataset.mean_ranks == (1, 2, 3, 4)
    assert found.by_dataset.p > found.ranking.p


def test_methods_and_students_that_are_incomplete_are_named(run):
    found = standings([run(skip={("a", "crd"), ("b", "crd"), ("d", "at")})])
    assert set(found.ranking.methods) == {"scratch", "kd", "at"}
    assert found.ranking.blocks == 3
    assert found.left_out == (
        "Not ranked, as at least half of the students lack them: crd.",
        "Left out, as they lack a ranked method: d of big (one).",
    )


def test_settings_that_differ_are_told(run):
    first, second = run("one", "ab"), run("two", "cd")
    path = second.run.folder(second.students[1].ids[0]) / "record.json"
    cell = json.loads(path.read_text())
    _write(path, cell | {"config": {"method": {"name": "kd", "temperature": 8}}})
    found = standings([first, summarise(second.run)])
    assert found.cautions == ("The settings of kd differ between the students.",)


def test_one_seed_is_ranked_without_intervals(run):
    found = standings([run(seeds=(0,))])
    assert found.ranking.p is not None
    assert found.rows[0].iqm.low is None
    assert "one seed" in found.rows[0].iqm.reason
    assert found.rows[0].ari_reason.startswith("ARI is unstable")


def test_what_cannot_be_ranked_has_a_reason(run):
    summary = run()
    assert "neither higher nor lower" in standings([summary], "both_right").ranking.reason
    alone = standings([run("two", methods=("scratch",))])
    assert alone.tasks == ()
    assert alone.ranking.reason == "of 4 students with top1, more than half share no two methods (scratch)"


def test_a_run_and_its_repetition_are_not_twice_as_many_students(run):
    before, after, other = run("before"), run("after", "cde", seeds=(3, 4)), run("other", dataset="mnist")
    with pytest.raises(UserError) as refused:
        standings([other, before, after])
    message = str(refused.value)
    assert f"{before.run.path} and {after.run.path} hold the same cells" in message
    assert "(c with scratch on digits and 7 more)" in message
    assert f"one by one: kdbench compare {before.run.path}; kdbench compare {after.run.path}." in message
    assert "\n" not in message
    assert len(standings([other, before]).tasks) == 8


def test_cells_that_were_renamed_are_the_same_cells(run):
    before, after = run("before", "ab"), run("after", "ab")
    for path in after.run.path.glob("cells/*/record.json"):
        cell = json.loads(path.read_text())
        _write(path, cell | {"student": f"my {cell['student']}"})
    with pytest.raises(UserError, match=r"hold the same cells \(my a with scratch on digits and 7 more\)"):
        standings([before, summarise(after.run)])


def test_methods_of_other_labels_are_said_to_be_matched_by_them(run, monkeypatch):
    monkeypatch.setitem(GAINS, "kd hot", 0.02)
    monkeypatch.setitem(GAINS, "none", 0.0)
    runs = [run("one", "ab", ("scratch", "kd")), run("two", "cd", ("none", "kd hot"))]
    assert standings(runs).ranking.reason.endswith("give one method the same label in every suite")


def test_runs_that_share_a_student_and_no_method_are_not_the_same_cells(run):
    found = standings([run("one", "abcd", ("scratch", "kd")), run("two", "ab", ("at", "crd"))])
    assert len(found.tasks) == 4


def test_mistakes_are_refused(run):
    summary = run()
    with pytest.raises(UserError, match="is given twice: a run counts once"):
        standings([summary, summary])
    with pytest.raises(UserError, match="unknown metric 'top2'"):
        standings([summary], "top2")
    with pytest.raises(UserError, match=r"unknown baseline 'crdd'\. Did you mean 'crd'"):
        standings([summary], baseline="crdd")
