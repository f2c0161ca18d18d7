from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats import contingency_tables

from kdbench.analysis.mcnemar import mcnemar, mcnemar_over_seeds


def pair(both: int, ours: int, theirs: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Two models' hits with a given 2 × 2 table."""
    counts = (both, ours, theirs, neither)
    first = np.repeat([True, True, False, False], counts)
    second = np.repeat([True, False, True, False], counts)
    return first, second


@given(st.integers(0, 30), st.integers(0, 40), st.integers(0, 40))
def test_one_pair_is_statsmodels_exact_below_25(both, b, c):
    found = mcnemar(*pair(both, b, c, 3))
    exact = b + c < 25
    # statsmodels takes the correction beyond zero where b = c
    assume(exact or b != c)
    assert found == contingency_tables.mcnemar([[both, b], [c, 3]], exact=exact).pvalue


@pytest.mark.parametrize("count", [0, 1, 12, 13, 40, 5_000])
def test_as_many_either_way_have_p_one(count):
    assert mcnemar(*pair(7, count, count, 3)) == 1
    ours, theirs = pair(7, count, count, 3)
    assert mcnemar_over_seeds([ours] * 3, [theirs] * 3) == 1


@pytest.mark.parametrize("total", [24, 25, 26, 101])
def test_p_falls_as_the_two_differ_more(total):
    ps = [mcnemar(*pair(7, b, total - b, 3)) for b in range(total // 2, total + 1)]
    assert ps == sorted(ps, reverse=True)
    assert ps[0] == 1


def test_the_example_of_the_textbooks():
    # b = 12, c = 2: exact binomial 2·P(X ≤ 2 | 14, ½) = 2·106/2¹⁴
    assert mcnemar(*pair(5, 12, 2, 5)) == pytest.approx(2 * 106 / 2**14)
    # b = 150, c = 86: (64 − 1)²/236 against χ²(1)
    assert mcnemar(*pair(794, 150, 86, 570)) == pytest.approx(stats.chi2.sf(63**2 / 236, 1))


def test_models_that_never_differ_have_p_one():
    assert mcnemar(*pair(9, 0, 0, 1)) == 1
    same = pair(9, 0, 0, 1)[0]
    assert mcnemar_over_seeds([same, same], [same, same]) == 1


def test_one_seed_gives_mcnemar():
    ours, theirs = pair(50, 30, 10, 10)
    assert mcnemar_over_seeds([ours], [theirs]) == mcnemar(ours, theirs)


def test_few_examples_are_counted_over_all_signs():
    generator = np.random.default_rng(3)
    for _ in range(20):
        ours = generator.random((3, 8)) < 0.7
        theirs = generator.random((3, 8)) < 0.4
        balance = ours.sum(axis=0).astype(int) - theirs.sum(axis=0)
        signs = np.array(list(itertools.product((-1, 1), repeat=8)))
        sums = np.abs(signs @ np.abs(balance))
        assert mcnemar_over_seeds(ours, theirs) == pytest.approx((sums >= abs(balance.sum())).mean())


def test_many_examples_are_the_statistic_of_durkalski():
    generator = np.random.default_rng(4)
    ours, theirs = generator.random((3, 500)) < 0.8, generator.random((3, 500)) < 0.75
    balance = (ours.astype(int) - theirs).sum(axis=0)
    statistic = balance.sum() ** 2 / (balance**2).sum()
    assert mcnemar_over_seeds(ours, theirs) == pytest.approx(stats.chi2.sf(statistic, 1))
    # and a permutation of the signs agrees, as far as a thousand draws can tell
    signs = generator.choice([-1, 1], size=(4_000, 500))
    often = (np.abs(signs @ balance) >= abs(balance.sum())).mean()
    assert mcnemar_over_seeds(ours, theirs) == pytest.approx(often, abs=0.03)


def test_seeds_that_repeat_each_other_are_no_new_evidence():
    # The same pair of models three times: multiplying p-values would make them ever smaller.
    ours, theirs = pair(400, 60, 40, 100)
    once = stats.chi2.sf(20**2 / 100, 1)
    assert mcnemar_over_seeds([ours] * 3, [theirs] * 3) == pytest.approx(once)


def test_the_size_over_seeds_holds_where_seeds_share_their_examples():
    generator = np.random.default_rng(5)
    rejected = 0
    for _ in range(400):
        hardness, taste = generator.normal(0, 2, 300), generator.normal(0, 1, (2, 1, 300))
        hits = generator.logistic(size=(2, 3, 300)) < taste - hardness
        rejected += mcnemar_over_seeds(hits[0], hits[1]) < 0.05
    assert stats.binomtest(rejected, 400, 0.05).pvalue > 0.01
