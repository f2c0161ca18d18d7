from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from kdbench.analysis.bootstrap import over_examples

GENERATOR = np.random.default_rng(7)


def test_the_interval_over_examples_is_scipys_bootstrap():
    scores = (GENERATOR.random(400) < 0.9).astype(float) - (GENERATOR.random(400) < 0.85)
    theirs = stats.bootstrap(
        (scores,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert over_examples(scores) == pytest.approx((theirs.low, theirs.high), abs=0.004)


def test_the_interval_over_examples_is_the_same_every_time():
    scores = np.repeat([0.0, 1.0], [30, 70])
    assert over_examples(scores) == over_examples(scores)


def test_a_wider_confidence_gives_a_wider_interval():
    scores = np.repeat([0.0, 1 / 3, 2 / 3, 1.0], 25)
    low, high = over_examples(scores, 0.99)
    inner_low, inner_high = over_examples(scores, 0.8)
    assert low < inner_low < inner_high < high
