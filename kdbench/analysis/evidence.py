"""What the test examples say of a difference: the part that differences by seed leave out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kdbench.analysis.bootstrap import over_examples
from kdbench.analysis.crossed import over_seeds_and_examples
from kdbench.analysis.intervals import is_constant
from kdbench.analysis.mcnemar import mcnemar, mcnemar_over_seeds
from kdbench.analysis.outcomes import Hits, NotStored, Outcomes
from kdbench.analysis.rows import Row

FEWEST_VARIED = 5


@dataclass(frozen=True)
class ExampleEvidence:
    """A difference over the N test examples.

    ``low`` and ``high`` bound the paired bootstrap interval over examples, for the models as they were
    trained; ``both_low`` and ``both_high`` the interval over seeds and examples together, of which
    ``both_reason`` says why there is none, or why it is that over seeds. ``p`` is McNemar's over all seeds,
    ``p_holm`` after Holm's correction, ``p_by_seed`` McNemar's of each seed. What could not be computed is
    None; ``reason`` says why where all of it is.
    """

    n: int | None = None
    low: float | None = None
    high: float | None = None
    both_low: float | None = None
    both_high: float | None = None
    both_reason: str | None = None
    p_by_seed: tuple[float, ...] = ()
    p: float | None = None
    p_holm: float | None = None
    reason: str | None = None


def evidence(
    outcomes: Outcomes, ours: Row, theirs: Row, seeds: Sequence[int], metric: str
) -> ExampleEvidence:
    """Return what the test examples say of two rows, on the seeds that both have."""
    try:
        a, b = ([outcomes.hits(row.ids[seed], metric) for seed in seeds] for row in (ours, theirs))
        labels = [outcomes.labels(row.ids[seed]) for row in (ours, theirs) for seed in seeds]
    except NotStored as missing:
        return ExampleEvidence(reason=str(missing))
    if not all(np.array_equal(labels[0], other) for other in labels):
        return ExampleEvidence(reason="the cells were tested on different examples")
    return _evidence(a, b)


def _evidence(ours: Sequence[Hits], theirs: Sequence[Hits]) -> ExampleEvidence:
    differences = np.array(ours, dtype=np.float64) - np.array(theirs, dtype=np.float64)
    by_example, by_seed = differences.mean(axis=0), differences.mean(axis=1)
    low, high = (None, None) if _why_not_over_examples(by_example) else over_examples(by_example)
    no_both = _why_not_both(len(by_seed), len(by_example), equal=is_constant(by_seed, scale=1.0))
    both = over_seeds_and_examples(differences) if no_both is None else None
    return ExampleEvidence(
        n=len(by_example),
        low=low,
        high=high,
        both_low=both.low if both else None,
        both_high=both.high if both else None,
        both_reason=both.reason if both else no_both,
        p_by_seed=tuple(mcnemar(a, b) for a, b in zip(ours, theirs, strict=True)),
        p=mcnemar_over_seeds(ours, theirs),
    )


def _why_not_both(seeds: int, examples: int, *, equal: bool) -> str | None:
    """Return why there is no interval over seeds and examples, where there is none."""
    if seeds < 2:
        return "one seed: an interval over seeds and examples needs at least two"
    if equal:
        return f"the {seeds} differences by seed are all equal: no spread to estimate"
    if examples < 2:
        return "one test example: an interval over seeds and examples needs at least two"
    return None


def example_interval(
    outcomes: Outcomes, row: Row, metric: str
) -> tuple[float | None, float | None, str | None]:
    """Return the bootstrap interval over test examples of a row's mean, and why there is none."""
    try:
        hits = [outcomes.hits(row.ids[seed], metric) for seed in row.values[metric]]
    except NotStored as missing:
        return None, None, str(missing)
    scores = np.mean(hits, axis=0) if hits else np.zeros(0)
    if not len(scores):
        return None, None, "no value was recorded"
    reason = _why_not_over_examples(scores)
    return (None, None, reason) if reason else (*over_examples(scores), None)


def _why_not_over_examples(scores: NDArray[np.float64]) -> str | None:
    """Return why there is no bootstrap interval over test examples, where there is none.

    Examples that all score alike leave nothing to draw from: a width of zero would claim certainty. Where
    fewer than 5 score otherwise than most do, a percentile interval covers as few as 82 % in simulation.
    """
    if is_constant(scores, scale=1.0):
        return "all test examples score the same"
    varied = len(scores) - int(np.unique(scores, return_counts=True)[1].max())
    if varied < FEWEST_VARIED:
        return f"{varied} of {len(scores):,} test examples score otherwise than the rest: too few to draw"
    return None
