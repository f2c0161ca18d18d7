"""What may be said of the differences: the table with verdicts, one sentence a claim, and how to read it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from scipy import stats

from kdbench.analysis.comparison import ALPHA, CONTROL, Comparison, compare_methods
from kdbench.analysis.gap import Gap, gaps_recovered
from kdbench.analysis.intervals import sampling_half_width
from kdbench.analysis.outcomes import SHARES
from kdbench.analysis.rows import Key
from kdbench.analysis.summary import Summary
from kdbench.column import Column
from kdbench.printable import counted
from kdbench.report import numerals
from kdbench.report.columns import short_title
from kdbench.report.evidence import (
    NOTHING,
    detectable_note,
    examples_note,
    has_examples,
    interval_text,
    p_text,
    raw_evidence,
)
from kdbench.report.table import MARKS, Cell, Heading, Line, Notes, Table

GAP = (
    "'Gap closed' is (method − scratch) / (teacher − scratch) by seed: 0 is plain training, 100 the teacher; "
    "below 0 the method does worse than plain training."
)


def difference_table(summary: Summary, metric: str | None = None, baseline: str = CONTROL) -> Table:
    """Return every method's paired difference from the baseline, with interval, p-values and verdict.

    What only test examples can tell has columns where it is known of any comparison; else the legend says
    why it is not.
    """
    metric = metric or summary.headline
    comparisons = compare_methods(summary, metric, baseline)
    column, notes = summary.columns[metric], Notes()
    decimals = numerals.percent_decimals(summary.test_size)
    unit = numerals.difference_unit(column)
    headings = [
        Heading("teacher", "teacher", numeric=False),
        Heading("student", "student", numeric=False),
        Heading("method", "method", numeric=False),
        Heading("n", "n", help="seeds that both have"),
        Heading("difference", "Δ", unit=unit),
        Heading("interval", "95 % interval", unit=unit, help="over seeds"),
        Heading("both", "seeds × examples", unit=unit, help="95 % interval over seeds and test examples"),
        Heading("examples", "over examples", unit=unit, help="95 % interval over test examples"),
        Heading("gap", "gap closed", unit="%", help="of the gap between the baseline and the teacher"),
        Heading("p", "p", help="paired t test"),
        Heading("p_holm", "p (Holm)"),
        Heading(
            "mcnemar", "McNemar p", help="of the trained models, over all seeds, after Holm's correction"
        ),
        Heading("p_better", "P(better)", help="probability that one training betters one of the baseline"),
        Heading(
            "detectable", "could show", unit=unit, help="smallest difference that is shown in 80 % of runs"
        ),
        Heading("verdict", "verdict", numeric=False),
    ]
    recovered = gaps_recovered(summary) if (metric, baseline) == (summary.headline, CONTROL) else []
    gaps: dict[Key, Gap] = {(gap.teacher, gap.student, gap.method): gap for gap in recovered}
    unknown = _without_values(comparisons, column)
    if all(gap.recovered.mean is None for gap in gaps.values()):  # also where there are none
        unknown.add("gap")
    kept = [heading for heading in headings if heading.key not in unknown]
    if len(summary.teacher_names) < 2:
        kept = [heading for heading in kept if heading.key != "teacher"]
    lines = []
    for claim in comparisons:
        cells = _cells(claim, column, notes, decimals, with_examples=has_examples(comparisons))
        if "gap" not in unknown:
            cells["gap"] = _gap_cell(gaps.get(claim.key), notes)
        lines.append(Line(tuple(cells[heading.key] for heading in kept)))
    tested = sum(claim.p is not None for claim in comparisons)
    judged = (
        "Intervals are not corrected for the number of comparisons; "
        f"verdicts go by p after Holm's correction over {tested}."
        if tested
        else "None could be tested over seeds."
    )
    direction = "no direction" if column.direction == "none" else column.direction
    legend = (
        f"Method minus {baseline}, paired by seed; {column.title}, {direction} is better. {judged}",
        *examples_note(comparisons),
        *detectable_note(comparisons),
        *([GAP] if "gap" not in unknown else []),
    )
    return Table(
        f"{column.title}: differences from {baseline}", tuple(kept), tuple(lines), legend, notes.texts
    )


def _without_values(comparisons: Sequence[Comparison], column: Column) -> set[str]:
    """Return the columns that would hold nothing but dashes, or what another column says better."""
    values: dict[str, list[float | None]] = {
        "both": [comparison.examples.both_low for comparison in comparisons],
        "examples": [comparison.examples.low for comparison in comparisons],
        "mcnemar": [comparison.examples.p for comparison in comparisons],
        "p_better": [comparison.improvement for comparison in comparisons if column.direction != "none"],
        "detectable": [comparison.sd for comparison in comparisons],
    }
    empty = {key for key, numbers in values.items() if all(value is None for value in numbers)}
    return empty if "both" in empty else {*empty, "examples"}


def _gap_cell(gap: Gap | None, notes: Notes) -> Cell:
    """Return the share of the gap that a method closes, with its interval as a hint."""
    if gap is None:
        return Cell("")
    interval = gap.recovered
    raw = {"gap_closed": interval.mean, "gap_closed_low": interval.low, "gap_closed_high": interval.high}
    if interval.mean is None:
        return Cell(numerals.DASH, raw, notes.number(interval.reason))
    hint = ""
    if interval.low is not None and interval.high is not None:
        bounds = f"{100 * interval.low:.0f} to {100 * interval.high:.0f}"
        hint = f"95 % interval over seeds {bounds}, n = {interval.n}"
    text = f"{100 * interval.mean:.0f}".replace("-", numerals.MINUS)
    return Cell(text, raw, sort=interval.mean, hint=hint)


def _cells(
    claim: Comparison, column: Column, notes: Notes, decimals: int, *, with_examples: bool
) -> dict[str, Cell]:
    """Return all cells of a comparison; with those of test examples where the table has them."""
    verdict = f"{MARKS[claim.verdict]} {claim.verdict}" if claim.verdict else "not tested"
    interval = interval_text(column, claim.low, claim.high, decimals) or numerals.DASH
    examples = claim.examples
    note = notes.number(examples.reason) if with_examples else None
    both = interval_text(column, examples.both_low, examples.both_high, decimals) or numerals.DASH
    alone = interval_text(column, examples.low, examples.high, decimals) or numerals.DASH
    identity = {"teacher": claim.teacher, "student": claim.student, "method": claim.method}
    better = numerals.DASH if claim.improvement is None else f"{claim.improvement:.2f}"
    return {
        "teacher": Cell(claim.teacher, sort=claim.teacher),
        "student": Cell(claim.student, identity, sort=claim.student),
        "method": Cell(claim.method, {"baseline": claim.baseline}, sort=claim.method),
        "n": Cell(str(claim.n), {"metric": claim.metric, "n": claim.n}, sort=claim.n),
        "difference": Cell(
            numerals.difference(column, claim.difference, decimals),
            {"difference": claim.difference},
            sort=claim.difference,
        ),
        "interval": Cell(
            interval, {"difference_low": claim.low, "difference_high": claim.high}, sort=claim.low
        ),
        "both": Cell(both, note=notes.number(examples.both_reason), sort=examples.both_low),
        "examples": Cell(alone, sort=examples.low),
        "p": Cell(numerals.p_value(claim.p), {"p": claim.p}, sort=claim.p),
        "p_holm": Cell(numerals.p_value(claim.p_holm), {"p_holm": claim.p_holm}, sort=claim.p_holm),
        "mcnemar": Cell(numerals.p_value(examples.p_holm), note=note, sort=examples.p_holm),
        "p_better": Cell(better, sort=claim.improvement),
        "detectable": Cell(
            numerals.number(column, claim.detectable, decimals),
            note=notes.number(NOTHING if claim.shows_nothing else None),
            sort=claim.detectable,
        ),
        "verdict": Cell(
            verdict,
            {"verdict": claim.verdict, "reason": claim.reason} | raw_evidence(claim),
            notes.number(claim.reason),
            sort=claim.verdict or "not tested",
        ),
    }


def statement(claim: Comparison, summary: Summary) -> str:
    """Return a comparison as a sentence.

    For example ``mlp_64: dkd against scratch: better, +0.8 points [+0.1, +1.5], n = 3 seeds × 599 examples,
    p = 0.040 (Holm); could show 1.0``.
    """
    column, decimals = summary.columns[claim.metric], numerals.percent_decimals(summary.test_size)
    teacher = f" (teacher {claim.teacher})" if len(summary.teacher_names) > 1 else ""
    head = f"{claim.student}{teacher}: {claim.method} against {claim.baseline}:"
    if claim.difference is None:
        return f"{head} not compared: {claim.reason}"
    unit = numerals.difference_unit(column)
    amount = " ".join(
        part
        for part in (
            numerals.difference(column, claim.difference, decimals),
            unit,
            interval_text(column, claim.low, claim.high, decimals),
        )
        if part
    )
    amount += f", n = {counted(claim.n, 'seed')}"
    if column.family != "cost":
        amount += f" × {summary.test_size:,} examples"
    more = "".join(f"; {text}" for text in _more(claim, column, decimals))
    if claim.p_holm is None:
        return f"{head} {amount}, not tested: {claim.reason}{more}"
    evidence = f"{amount}, {p_text(claim.p_holm)} (Holm)"
    if claim.verdict == "no difference shown":
        return f"{head} no difference shown ({evidence}{more})"
    return f"{head} {claim.verdict}, {evidence}{more}"


def _more(claim: Comparison, column: Column, decimals: int) -> Iterator[str]:
    """Yield what test examples add to a claim, and what it could have shown."""
    examples = claim.examples
    if both := interval_text(column, examples.both_low, examples.both_high, decimals):
        yield (
            "over seeds and examples the same" if examples.both_reason else f"over seeds and examples {both}"
        )
    elif alone := interval_text(column, examples.low, examples.high, decimals):
        yield f"over examples {alone}"
    if examples.p_holm is not None:
        yield f"McNemar {p_text(examples.p_holm)}"
    if claim.shows_nothing:
        yield "could show nothing"
    elif claim.detectable is not None:
        yield f"could show {numerals.number(column, claim.detectable, decimals)}"


def statements(summary: Summary, comparisons: Sequence[Comparison]) -> list[str]:
    """Return a sentence for each comparison."""
    return [statement(comparison, summary) for comparison in comparisons]


def how_to_read(summary: Summary, comparisons: Sequence[Comparison]) -> list[str]:
    """Return what a reader must know of the numbers: what intervals cover, and what few seeds hide."""
    texts = ["All test figures are of the last epoch; nothing is selected on the test split."]
    if summary.unfinished:
        texts.append(
            f"The run is not complete: {counted(summary.unfinished, 'record')} of the plan are missing."
        )
    if summary.earlier:
        texts.append(summary.earlier)
    texts += [*_seeds(summary, comparisons), *_test_set(summary), *_teachers(summary)]
    return texts


def _seeds(summary: Summary, comparisons: Sequence[Comparison]) -> list[str]:
    if not summary.measured:
        return ["No student finished: there is nothing to compare."]
    if summary.seed_counts[-1] < 2:
        return ["There is one seed: no interval and no test is possible, and any difference may be chance."]
    tested = [comparison for comparison in comparisons if comparison.p is not None]
    if not tested:
        return []
    n, m = max(comparison.n for comparison in tested), len(tested)
    plain, strict = (stats.t.ppf(1 - alpha / 2, n - 1) / math.sqrt(n) for alpha in (ALPHA, ALPHA / m))
    corrected = (
        f"; with Holm's correction the clearest of the {m:,} comparisons here must exceed {strict:.1f} times"
    )
    return [
        f"{n} seeds{' are few' if n < 10 else ''}: a mean difference passes one paired t test if it exceeds "
        f"{plain:.1f} times the standard deviation of the differences{corrected if m > 1 else ''}. "
        "'No difference shown' means that these seeds cannot tell, not that the methods are equal."
    ]


def _test_set(summary: Summary) -> list[str]:
    column = summary.headline_column
    measured = summary.without_repeats().measured
    means = [mean for row in measured if (mean := row.mean(column.name)) is not None]
    if not means or column.quantity not in SHARES:
        return []
    typical, size = sum(means) / len(means), summary.test_size
    half = 100 * sampling_half_width(typical, size)
    left_out = (
        "Intervals and whiskers cover the chance of training (seeds), not that of the test set. "
        if summary.seed_counts[-1] > 1
        else ""
    )
    return [
        f"{left_out}{size:,} test examples by themselves leave ±{half:.1f} points (95 %) around a "
        f"{short_title(column)} of {100 * typical:.0f} %; one example is "
        f"{numerals.significant(100 / size, 2)} points."
    ]


def _teachers(summary: Summary) -> list[str]:
    single = [row.teacher for row in summary.teachers if len(row.seeds) == 1]
    if not single or not summary.seed_counts or summary.seed_counts[-1] < 2:
        return []
    names = " and ".join(single)
    are = "is a single trained teacher" if len(single) == 1 else "are each a single trained teacher"
    return [
        f"{names} {are}: intervals are over the seeds of the students and say nothing about another training "
        "of the teacher."
    ]
