from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdbench.analysis.ranks import cliques, critical_difference, rank_methods

# Table 5(a) of Demšar 2006: q at 0.05 for 2 to 10 classifiers.
DEMSAR = (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164)
# Table 6 of Demšar 2006: the AUC of C4.5 in four variants on 14 datasets.
C45 = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],
        [0.957, 0.978, 0.946, 0.970],
    ]
)
VARIANTS = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


@pytest.mark.parametrize(("k", "q"), enumerate(DEMSAR, start=2))
def test_the_critical_difference_has_the_q_of_the_printed_table(k, q):
    assert critical_difference(k, 20) == pytest.approx(q * math.sqrt(k * (k + 1) / 120), rel=5e-4)


def test_the_worked_example_of_the_paper():
    found = rank_methods(C45, VARIANTS)
    ranks = dict(zip(found.methods, found.mean_ranks, strict=True))
    assert found.methods == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert [round(ranks[name], 3) for name in VARIANTS] == [3.143, 2.0, 2.893, 1.964]
    # The paper does without the correction for ties, which scipy makes; its CD at 0.10 is 1.12.
    uncorrected = 12 * 14 / 20 * (sum(rank**2 for rank in found.mean_ranks) - 25)
    assert round(uncorrected, 2) == 9.28
    assert found.statistic == stats.friedmanchisquare(*C45.T).statistic > uncorrected
    assert round(critical_difference(4, 14, alpha=0.10), 2) == 1.12
    assert found.differs


@settings(max_examples=settings.default.max_examples // 4)
@given(st.integers(3, 6), st.integers(3, 12), st.integers(0, 10_000))
def test_friedman_is_scipys_and_ranks_sum_up(k, blocks, seed):
    scores = np.random.default_rng(seed).integers(0, 20, size=(blocks, k)).astype(float)
    scores[0] = np.arange(k)
    found = rank_methods(scores, [f"m{index}" for index in range(k)])
    assert found.p == stats.friedmanchisquare(*scores.T).pvalue
    assert sum(found.mean_ranks) == pytest.approx(k * (k + 1) / 2)
    assert list(found.mean_ranks) == sorted(found.mean_ranks)


def test_cliques_are_the_longest_runs_within_the_difference():
    assert cliques([1.0, 1.5, 2.2, 4.0, 4.1], 1.0) == ((0, 1), (1, 2), (3, 4))
    assert cliques([1.0, 2.0, 3.0], 1.0) == ()
    assert cliques([1.0, 1.2, 1.4], 1.0) == ((0, 2),)


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((5, 2), "2 methods: Friedman's test needs at least 3"), ((2, 4), "2 students"), ((1, 4), "1 student:")],
)
def test_too_few_are_ranked_and_not_tested(shape, reason):
    found = rank_methods(np.random.default_rng(0).normal(size=shape), list("abcd")[: shape[1]])
    assert reason in found.reason
    assert found.p is found.critical_difference is found.statistic is None
    assert len(found.mean_ranks) == shape[1]
    assert not found.differs


def test_methods_that_are_all_equal_are_not_tested():
    found = rank_methods(np.ones((5, 3)), list("abc"))
    assert found.mean_ranks == (2, 2, 2)
    assert "equal" in found.reason


def test_equal_methods_are_told_apart_in_one_of_twenty_cases():
    generator, repetitions = np.random.default_rng(1), 400
    shown = sum(
        rank_methods(generator.normal(size=(12, 4)), list("abcd")).differs for _ in range(repetitions)
    )
    assert stats.binomtest(shown, repetitions, 0.05, alternative="greater").pvalue > 0.01
