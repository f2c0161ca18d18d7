"""Is the difference real? Paired differences by seed against a baseline, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from kdbench.analysis.aggregate import probability_of_improvement
from kdbench.analysis.evidence import ExampleEvidence, evidence
from kdbench.analysis.intervals import is_constant, t_interval
from kdbench.analysis.power import detectable_difference
from kdbench.analysis.rows import Key, Row
from kdbench.analysis.summary import Summary
from kdbench.column import Direction, unknown_column
from kdbench.errors import unknown

ALPHA = 0.05
CONTROL = "scratch"
NO_EVIDENCE = ExampleEvidence()
Verdict = Literal["better", "worse", "higher", "lower", "no difference shown"]


@dataclass(frozen=True)
class Comparison:
    """A method against the baseline for one student: method minus baseline, paired by seed.

    ``low`` and ``high`` bound the 95 % t interval of the mean difference and are not corrected; ``p`` is of
    the paired t test, ``p_holm`` after Holm's correction, and ``verdict`` goes by ``p_holm``. ``sd`` is the
    standard deviation of the differences, and ``detectable`` the smallest difference that as many pairs with
    this ``sd`` would show in 80 % of runs, tested at 0.05 over the number of comparisons; where that is more
    than ``possible``, which the range of the metric leaves on either side of the baseline, it is None.
    ``improvement`` is the probability, from two seeds on, that the method betters the baseline in one
    training of each.
    ``examples`` says what the test examples add. What could not be computed is None, with the reason.
    """

    teacher: str
    student: str
    method: str
    baseline: str
    metric: str
    n: int
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    sd: float | None = None
    possible: float = math.inf
    detectable: float | None = None
    improvement: float | None = None
    examples: ExampleEvidence = NO_EVIDENCE

    @property
    def key(self) -> Key:
        """The labels of the row that is compared."""
        return self.teacher, self.student, self.method

    @property
    def shows_nothing(self) -> bool:
        """Whether seeds spread so much that no difference that is possible would be shown."""
        return self.sd is not None and self.detectable is None


def compare_methods(
    summary: Summary, metric: str | None = None, baseline: str = CONTROL, *, repeats: bool = False
) -> list[Comparison]:
    """Return each method against the baseline with the same teacher and student, in the order of the rows.

    Without a ``metric`` it is by the headline of the run.
    With ``repeats`` it is the controls that repeat a method with a random teacher that are compared, and no
    method: they answer another question, and would make the correction of the methods' own stricter.
    Holm's correction is over all comparisons that are returned (Holm, 1979), for the t test and for McNemar's
    apart. A metric without a direction gives the verdicts 'higher' and 'lower'. Raises UserError for an
    unknown metric or baseline; only the usual control may be absent from a run, which leaves the differences
    None with a reason.
    """
    metric = metric or summary.headline
    if metric not in summary.columns:
        raise unknown_column(metric, summary.columns)
    if baseline != CONTROL and baseline not in summary.methods:
        raise unknown("baseline", baseline, summary.methods)
    controls = {(row.teacher, row.student): row for row in summary.students if row.method == baseline}
    comparisons = [
        compare_rows(summary, row, controls.get((row.teacher, row.student)), metric, baseline)
        for row in summary.students
        if row.method != baseline and (row.method in summary.repeats) == repeats
    ]
    return corrected(comparisons, summary.columns[metric].direction)


def compare_rows(summary: Summary, row: Row, control: Row | None, metric: str, baseline: str) -> Comparison:
    """Return a student's row against another, paired by seed; ``corrected`` gives it a verdict.

    ``baseline`` is what sentences call the other row, which may be absent.
    """
    assert row.student is not None and row.method is not None
    empty = Comparison(row.teacher, row.student, row.method, baseline, metric, n=0)
    if control is None:
        return replace(empty, reason=f"the run holds no {baseline} of {row.student}")
    ours, theirs = row.values[metric], control.values[metric]
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return replace(empty, reason=_why_unpaired(ours, theirs, baseline))
    differences = np.array([ours[seed] - theirs[seed] for seed in seeds])
    sign = -1.0 if summary.columns[metric].direction == "lower" else 1.0
    pairs = sign * np.array([(ours[seed], theirs[seed]) for seed in seeds])
    (lowest, highest), level = summary.columns[metric].bounds, np.mean([theirs[seed] for seed in seeds])
    result = replace(
        empty,
        n=len(seeds),
        possible=float(max(highest - level, level - lowest)),
        difference=float(differences.mean()),
        improvement=probability_of_improvement(pairs) if len(seeds) > 1 else None,
        examples=evidence(summary.outcomes, row, control, seeds, metric),
    )
    if len(seeds) == 1:
        return replace(result, reason="one seed in common: a paired test needs at least two")
    return tested(result, differences, max(abs(v) for seed in seeds for v in (ours[seed], theirs[seed])))


def tested(comparison: Comparison, differences: NDArray[np.float64], scale: float) -> Comparison:
    """Return a comparison with the t test that its n ≥ 2 differences have mean zero, or why there is none.

    ``scale`` is the size of the numbers whose differences they are: what is equal but for their rounding has
    no variance to test against.
    """
    if is_constant(differences, scale):
        return replace(
            comparison,
            reason=f"the {len(differences)} differences are all equal: no variance to test against",
        )
    interval = t_interval(differences)
    p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    if not math.isfinite(p):
        raise ArithmeticError(f"paired t test of {differences.tolist()} gave {p}")
    return replace(comparison, low=interval.low, high=interval.high, p=p, sd=interval.sd)


def _why_unpaired(ours: Mapping[int, float], theirs: Mapping[int, float], baseline: str) -> str:
    if not ours:
        return "the method has no value"
    if not theirs:
        return f"{baseline} has no value"
    return f"the method and {baseline} have no finished seed in common"


def corrected(comparisons: list[Comparison], direction: Direction) -> list[Comparison]:
    """Return the comparisons with Holm's p-values over those that were tested, and their verdicts."""
    tested = sum(comparison.p is not None for comparison in comparisons)
    by_seeds = _holm([comparison.p for comparison in comparisons])
    by_examples = _holm([comparison.examples.p for comparison in comparisons])
    result = []
    for comparison, p, p_examples in zip(comparisons, by_seeds, by_examples, strict=True):
        judged = comparison if p is None else _judged(comparison, p, direction)
        if comparison.sd is not None:
            smallest = detectable_difference(comparison.sd, comparison.n, ALPHA / tested)
            judged = replace(judged, detectable=smallest if smallest <= comparison.possible else None)
        result.append(replace(judged, examples=replace(comparison.examples, p_holm=p_examples)))
    return result


def _holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return the corrected p-values in their order, None where nothing was tested.

    Of m, the i-th smallest is multiplied by m − i + 1, and none is smaller than the one before it.
    """
    tested = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        adjusted[place] = largest = max(largest, min(1.0, p * (len(tested) - rank)))
    return adjusted


def _judged(comparison: Comparison, p_holm: float, direction: Direction) -> Comparison:
    assert comparison.difference is not None
    verdict: Verdict
    up = comparison.difference > 0
    if p_holm >= ALPHA:
        verdict = "no difference shown"
    elif direction == "none":
        verdict = "higher" if up else "lower"
    else:
        verdict = "better" if up == (direction == "higher") else "worse"
    return replace(comparison, p_holm=p_holm, verdict=verdict)
