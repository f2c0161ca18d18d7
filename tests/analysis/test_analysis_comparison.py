from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kdbench.analysis.comparison import Comparison, compare_methods, corrected
from kdbench.errors import UserError

SCRATCH = {0: 0.70, 1: 0.72, 2: 0.69}
CLEAR = {0: 0.7501, 1: 0.7702, 2: 0.7403}
NOISE = {0: 0.73, 1: 0.69, 2: 0.70}


def holm(ps):
    """Holm (1979) by its definition: step down through the sorted p-values, never going back."""
    order = np.argsort(ps)
    stepped = np.maximum.accumulate([(len(ps) - rank) * ps[index] for rank, index in enumerate(order)])
    adjusted = np.empty(len(ps))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def test_a_difference_is_the_paired_t_test_of_scipy(summary_of):
    summary = summary_of({("s", "scratch"): SCRATCH, ("s", "kd"): NOISE})
    (found,) = compare_methods(summary)
    test = stats.ttest_rel(list(NOISE.values()), list(SCRATCH.values()))
    interval = test.confidence_interval(0.95)
    assert found.n == 3
    assert found.difference == pytest.approx(np.mean(list(NOISE.values())) - np.mean(list(SCRATCH.values())))
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p == found.p_holm == pytest.approx(test.pvalue)
    assert found.verdict == "no difference shown"


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8))
def test_p_values_are_corrected_by_holms_definition(ps):
    table = [Comparison("t", "s", f"m{i}", "scratch", "top1", 3, 0.1, p=p) for i, p in enumerate(ps)]
    found = [comparison.p_holm for comparison in corrected(table, "higher")]
    assert found == pytest.approx(list(holm(ps)))


def test_correction_counts_every_student_and_method(summary_of):
    summary = summary_of(
        {
            ("s", "scratch"): SCRATCH,
            ("s", "kd"): CLEAR,
            ("s", "at"): NOISE,
            ("u", "scratch"): SCRATCH,
            ("u", "kd"): NOISE,
        }
    )
    found = compare_methods(summary)
    assert [(c.student, c.method) for c in found] == [("s", "kd"), ("s", "at"), ("u", "kd")]
    assert [c.p_holm for c in found] == pytest.approx(list(holm([c.p for c in found])))
    assert [c.verdict for c in found] == ["better", "no difference shown", "no difference shown"]


@pytest.mark.parametrize(
    ("metric", "verdict"), [("top1", "better"), ("nll", "worse"), ("both_right", "higher")]
)
def test_the_verdict_follows_the_direction_of_the_column(summary_of, metric, verdict):
    summary = summary_of({("s", "scratch"): SCRATCH, ("s", "kd"): CLEAR}, metric)
    (found,) = compare_methods(summary, metric)
    assert found.difference > 0
    assert found.verdict == verdict


def test_only_seeds_that_both_have_are_paired(summary_of):
    summary = summary_of(
        {("s", "scratch"): {0: 0.70, 1: 0.72, 2: None}, ("s", "kd"): {0: 0.75, 1: 0.76, 2: 0.10}}
    )
    (found,) = compare_methods(summary)
    assert found.n == 2
    assert found.difference == pytest.approx(0.045)


@pytest.mark.parametrize(
    ("scratch", "kd", "n", "reason"),
    [
        ({0: 0.7}, {0: 0.8}, 1, "at least two"),
        ({0: 0.7, 1: 0.7}, {0: 0.8, 1: 0.8}, 2, "no variance"),
        # In binary these differences are 0.1 and 0.09999999999999998: rounding is no variance.
        ({0: 0.7, 1: 0.8, 2: 0.3}, {0: 0.8, 1: 0.9, 2: 0.4}, 3, "no variance"),
        ({0: 0.7, 1: 0.7}, {0: 0.7, 1: 0.7}, 2, "no variance"),
        ({0: None, 1: None}, {0: 0.8, 1: 0.8}, 0, "scratch has no value"),
        ({0: 0.7, 1: 0.8}, {0: None, 1: "not measured"}, 0, "the method has no value"),
        ({0: 0.7}, {1: 0.8}, 0, "no finished seed in common"),
    ],
)
def test_what_cannot_be_tested_is_none_with_a_reason(summary_of, scratch, kd, n, reason):
    (found,) = compare_methods(summary_of({("s", "scratch"): scratch, ("s", "kd"): kd}))
    assert found.n == n
    assert found.p is found.p_holm is found.low is found.high is found.verdict is None
    assert reason in found.reason
    assert (found.difference is None) == (n == 0)


def test_a_run_without_the_control_has_reasons_instead_of_differences(summary_of):
    found = compare_methods(summary_of({("s", "kd"): SCRATCH, ("s", "at"): NOISE}))
    assert [c.reason for c in found] == ["the run holds no scratch of s"] * 2


def test_another_baseline(summary_of):
    (found,) = compare_methods(summary_of({("s", "scratch"): SCRATCH, ("s", "kd"): CLEAR}), baseline="kd")
    assert (found.method, found.baseline, found.verdict) == ("scratch", "kd", "worse")


def test_unknown_names_are_refused_with_the_nearest(summary_of):
    summary = summary_of({("s", "scratch"): SCRATCH, ("s", "kd"): CLEAR})
    for name in ("accuracy", "Accuracy", "top-1", "ACC"):
        with pytest.raises(UserError, match=rf"unknown metric '{name}'\. Did you mean 'top1'"):
            compare_methods(summary, name)
    with pytest.raises(UserError, match=r"unknown metric 'latency'\. Did you mean 'latency_cpu_b1_p50_ms'"):
        compare_methods(summary, "latency")
    with pytest.raises(UserError, match=r"unknown metric 'top'\. Did you mean 'top1'"):
        compare_methods(summary, "top")
    with pytest.raises(UserError, match=r"unknown baseline 'scrach'\. Did you mean 'scratch'"):
        compare_methods(summary, baseline="scrach")
