"""What a report opens with: in two to five sentences what is best, at what cost, and what is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from kdbench.analysis.comparison import CONTROL, Comparison
from kdbench.analysis.findings import Findings, Standing, find
from kdbench.analysis.summary import Summary
from kdbench.printable import counted
from kdbench.report import numerals
from kdbench.report.phrases import (
    COUNTED,
    against_teacher_text,
    difference_text,
    full_name,
    joined,
    name_of,
    saved_text,
)


def answer(summary: Summary, metric: str | None = None, baseline: str = CONTROL) -> list[str]:
    """Return the sentences, worded from the verdicts that ``find`` gives.

    Raises UserError for an unknown metric or baseline.
    """
    findings = find(summary, metric, baseline)
    parts = [part(summary, findings) for part in (_best, _cheap, _methods)]
    return [*chain(*parts), *_gaps(summary)]


def _best(summary: Summary, findings: Findings) -> Iterator[str]:
    """Say which student is best, and what it gains and loses against its teacher."""
    column, best = summary.columns[findings.metric], findings.best
    if best is None:
        if not any(row.mean(findings.metric) is not None for row in summary.without_repeats().measured):
            yield f"No student has a value of {column.title}: there is nothing to compare."
        return
    accuracy = (column.quantity, column.epoch) == ("top1", "last")
    word = "the most accurate" if accuracy else f"the best {column.title}"
    basis = "its mean" if len(best.row.values[findings.metric]) > 1 else "its one seed"
    of = f"By {basis}, {word} of {findings.judged:,} rows is" if findings.judged > 1 else "The one row is"
    level = joined([full_name(summary, row) for row in findings.tied])
    tied = f" (level with {level})" if level else ""
    teacher = against_teacher_text(summary, best.against, findings.judged)
    yield f"{of} {name_of(best.row)}{tied}: {_described(summary, best, teacher)}."


def _cheap(summary: Summary, findings: Findings) -> Iterator[str]:
    """Say which cheaper student comes nearest to the best, and which is the cheapest of all."""
    best, cheapest, near, nearest = findings.best, findings.cheapest, findings.near, findings.nearest
    if best is None:
        return
    if findings.cost is None:
        yield "No cost is known of every student: nothing is said of what is cheap."
        return
    by = f" by {_cost(summary, findings)}"
    if findings.overshadowed:
        yield f"By the means no student is better than {best.row.teacher}, and none is cheaper{by}."
        return
    if cheapest is None:
        if any(row.student != best.row.student for row in summary.students):
            yield f"No student is cheaper than it{by}."
        return
    if near is not None and nearest is not None:
        difference = f"{difference_text(summary, nearest)} from it"
        what = _described(summary, near, difference)
        yield f"{_nearness(findings, nearest, by)} {name_of(near.row)}: {what}."
        by = ""
    if near is None or near.row is not cheapest.row:
        teacher = against_teacher_text(summary, cheapest.against, findings.judged)
        what = _described(summary, cheapest, teacher)
        yield f"Cheapest of all{by} is {name_of(cheapest.row)}: {what}."


def _nearness(findings: Findings, nearest: Comparison, by: str) -> str:
    """Return what a cheaper row is named for."""
    if not findings.alike:
        return f"The best of the cheaper rows{by} is"
    seeds = nearest.p is not None
    witness = "neither seeds nor test examples tell" if seeds else "the test examples do not tell"
    return f"The cheapest{by} that {witness} from it is"


def _methods(summary: Summary, findings: Findings) -> Iterator[str]:
    """Say how many methods are shown to differ from the baseline, and which differs most."""
    compared, direction = findings.methods, summary.columns[findings.metric].direction
    if not compared:
        yield f"There is no method beside {findings.baseline} to compare with it."
        return
    count = counted(len(compared), "comparison")
    untested = [comparison for comparison in compared if comparison.p is None]
    if len(untested) == len(compared):
        reason = Counter(str(comparison.reason) for comparison in untested).most_common(1)[0][0]
        yield (
            f"Against {findings.baseline} nothing could be tested ({count}; {reason}): any difference may be "
            "chance."
        )
        return
    words = ("higher", "lower") if direction == "none" else ("better", "worse")
    shown = {word: [comparison for comparison in compared if comparison.verdict == word] for word in words}
    parts = [
        f"{len(members):,} {'is' if len(members) == 1 else 'are'} shown {word}{_largest(summary, members)}"
        for word, members in shown.items()
        if members
    ]
    missing = " or ".join(word for word, members in shown.items() if not members)
    if missing:
        parts.insert(0, f"none is shown {missing}")
    unknown = sum(comparison.verdict == "no difference shown" for comparison in compared)
    if unknown:
        shows = "shows" if unknown == 1 else "show"
        parts.append(f"{unknown:,} {shows} no difference, which does not mean equal")
    if untested:
        parts.append(f"{len(untested):,} could not be tested")
    yield f"Against {findings.baseline} ({count} paired by seed, Holm): {', '.join(parts)}."


def _largest(summary: Summary, shown: Sequence[Comparison]) -> str:
    """Return in brackets which of the differences that are shown is the largest."""
    largest = max(shown, key=lambda comparison: abs(comparison.difference or 0.0))
    most = "most " if len(shown) > 1 else ""
    return f" ({most}{full_name(summary, largest)}, {difference_text(summary, largest)})"


def _gaps(summary: Summary) -> Iterator[str]:
    """Say what all of this leaves out."""
    cells = sum(failure.role == "student" for failure in summary.failures)
    parts = [f"{cells:,} that failed or were skipped"] if cells else []
    if summary.unfinished:
        parts.append(f"{summary.unfinished:,} not run yet")
    if parts:
        yield f"Cells of the plan that have no part in this: {' and '.join(parts)}."


def _described(summary: Summary, standing: Standing, difference: str) -> str:
    """Return a row's value, a difference, and what the row costs beside its teacher."""
    column = summary.columns[standing.against.metric]
    interval, decimals = standing.row.metrics[column.name], numerals.percent_decimals(summary.test_size)
    value = numerals.with_interval(column, interval.mean, interval.half_width, decimals)
    value = f"{value} {numerals.unit(column)}".rstrip()
    return ", ".join(part for part in (value, difference, saved_text(summary, standing.savings)) if part)


def _cost(summary: Summary, findings: Findings) -> str:
    """Return what cheap means, and that it was timed in noise where it was."""
    assert findings.cost is not None
    place = summary.columns[findings.cost].place
    if place is None:
        return COUNTED.get(findings.cost, "size")
    noise = "; the machine was not quiet" if findings.noise else ""
    return f"latency ({place.words}{noise})"
