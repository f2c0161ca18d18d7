"""What a report opens with: in two to five sentences what is best, at what cost, and what is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from kdbench.analysis.comparison import ALPHA, CONTROL, Comparison
from kdbench.analysis.findings import Findings, Standing, find
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.evidence import interval_text

COUNTED = {"params": "parameters", "macs": "MACs"}
# Costs that differ by a smaller factor are called equal.
ALIKE = 1.05


def answer(summary: Summary, metric: str | None = None, baseline: str = CONTROL) -> list[str]:
    """Return the sentences, worded from the verdicts that ``find`` gives.

    Raises UserError for an unknown metric or baseline.
    """
    found = find(summary, metric, baseline)
    return [*_best(summary, found), *_cheap(summary, found), *_methods(summary, found), *_gaps(summary)]


def _best(summary: Summary, found: Findings) -> Iterator[str]:
    """Say which student is best, and what it gains and loses against its teacher."""
    column, best = summary.columns[found.metric], found.best
    if best is None:
        if not any(row.mean(found.metric) is not None for row in summary.without_repeats().measured):
            yield f"No student has a value of {column.title}: there is nothing to compare."
        return
    accuracy = (column.quantity, column.epoch) == ("top1", "last")
    word = "the most accurate" if accuracy else f"the best {column.title}"
    basis = "its mean" if len(best.row.values[found.metric]) > 1 else "its one seed"
    of = f"By {basis}, {word} of {found.judged:,} rows is" if found.judged > 1 else "The one row is"
    tied = f" (level with {_joined([_full_name(summary, row) for row in found.tied])})" if found.tied else ""
    teacher = _against_teacher(summary, best.against, found.judged)
    yield f"{of} {_name(best.row)}{tied}: {_described(summary, best, teacher)}."


def _cheap(summary: Summary, found: Findings) -> Iterator[str]:
    """Say which cheaper student comes nearest to the best, and which is the cheapest of all."""
    best, cheapest, near, nearest = found.best, found.cheapest, found.near, found.nearest
    if best is None:
        return
    if found.cost is None:
        yield "No cost is known of every student: nothing is said of what is cheap."
        return
    by = f" by {_cost(summary, found)}"
    if found.overshadowed:
        yield f"By the means no student is better than {best.row.teacher}, and none is cheaper{by}."
        return
    if cheapest is None:
        if any(row.student != best.row.student for row in summary.students):
            yield f"No student is cheaper than it{by}."
        return
    if near is not None and nearest is not None:
        difference = f"{_difference(summary, nearest)} from it"
        yield f"{_nearness(found, nearest, by)} {_name(near.row)}: {_described(summary, near, difference)}."
        by = ""
    if near is None or near.row is not cheapest.row:
        teacher = _against_teacher(summary, cheapest.against, found.judged)
        what = _described(summary, cheapest, teacher)
        yield f"Cheapest of all{by} is {_name(cheapest.row)}: {what}."


def _nearness(found: Findings, nearest: Comparison, by: str) -> str:
    """Return what a cheaper row is named for."""
    if not found.alike:
        return f"The best of the cheaper rows{by} is"
    seeds = nearest.p is not None
    witness = "neither seeds nor test examples tell" if seeds else "the test examples do not tell"
    return f"The cheapest{by} that {witness} from it is"


def _methods(summary: Summary, found: Findings) -> Iterator[str]:
    """Say how many methods are shown to differ from the baseline, and which differs most."""
    compared, direction = found.methods, summary.columns[found.metric].direction
    if not compared:
        yield f"There is no method beside {found.baseline} to compare with it."
        return
    count = f"{len(compared):,} comparison{'' if len(compared) == 1 else 's'}"
    untested = [comparison for comparison in compared if comparison.p is None]
    if len(untested) == len(compared):
        reason = Counter(str(comparison.reason) for comparison in untested).most_common(1)[0][0]
        yield (
            f"Against {found.baseline} nothing could be tested ({count}; {reason}): any difference may be "
            "chance."
        )
        return
    words = ("higher", "lower") if direction == "none" else ("better", "worse")
    shown = {word: [found for found in compared if found.verdict == word] for word in words}
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
    yield f"Against {found.baseline} ({count} paired by seed, Holm): {', '.join(parts)}."


def _largest(summary: Summary, shown: Sequence[Comparison]) -> str:
    """Return in brackets which of the differences that are shown is the largest."""
    largest = max(shown, key=lambda found: abs(found.difference or 0.0))
    most = "most " if len(shown) > 1 else ""
    return f" ({most}{_full_name(summary, largest)}, {_difference(summary, largest)})"


def _gaps(summary: Summary) -> Iterator[str]:
    """Say what all of this leaves out."""
    cells = sum(failure.role == "student" for failure in summary.failures)
    parts = [f"{cells:,} that failed or were skipped"] if cells else []
    if summary.unfinished:
        parts.append(f"{summary.unfinished:,} not run yet")
    if parts:
        yield f"Cells of the plan that have no part in this: {' and '.join(parts)}."


def _described(summary: Summary, found: Standing, difference: str) -> str:
    """Return a row's value, a difference, and what the row costs beside its teacher."""
    column = summary.columns[found.against.metric]
    interval, decimals = found.row.metrics[column.name], numerals.percent_decimals(summary.test_size)
    value = numerals.with_interval(column, interval.mean, interval.half_width, decimals)
    value = f"{value} {numerals.unit(column)}".rstrip()
    return ", ".join(part for part in (value, difference, _saved(summary, found)) if part)


def _against_teacher(summary: Summary, found: Comparison, judged: int) -> str:
    """Return the difference from the teacher, or nothing where that has no value by this metric."""
    teacher = next((row for row in summary.teachers if row.teacher == found.teacher), None)
    level = None if teacher is None else teacher.mean(found.metric)
    if level is None or found.difference is None:
        return ""
    column, decimals = summary.columns[found.metric], numerals.percent_decimals(summary.test_size)
    value = f"{numerals.number(column, level, decimals)} {numerals.unit(column)}"
    name = f"its teacher {found.teacher} with {value.rstrip()}"
    if found.verdict is None:
        verdict = f"not tested: {str(found.reason).split(':')[0]}"
    elif found.verdict == "no difference shown":
        # An interval that leaves out 0 would read like a verdict: intervals are not corrected.
        excludes = found.p is not None and found.p < ALPHA
        verdict = f"not shown after correction for {judged:,} rows" if excludes else found.verdict
    else:
        verdict = "gain shown" if found.verdict == "better" else "loss shown"
    return f"{_difference(summary, found)} from {name} ({verdict})"


def _saved(summary: Summary, found: Standing) -> str:
    """Return what a row costs beside its teacher: ``33× faster (CPU, batch 1), 60× fewer parameters``."""
    texts, alike = [], True
    for name, ratio in found.savings.items():
        place, factor = summary.columns[name].place, max(ratio, 1 / ratio)
        times = f"{numerals.significant(factor, 2) if factor < 100 else f'{factor:,.0f}'}× "
        if place:
            what = f" ({place.words})"
            text = "as fast" if factor < ALIKE else times + ("faster" if ratio > 1 else "slower")
        else:
            what = f" {COUNTED[name]}"
            text = "as many" if factor < ALIKE else times + ("fewer" if ratio > 1 else "more")
        texts.append(text + what)
        alike = alike and factor < ALIKE
    return "at the cost of its teacher" if texts and alike else _joined(texts)


def _difference(summary: Summary, found: Comparison) -> str:
    """Return a difference with its unit and its 95 % interval: ``−1.0 points [−1.9, −0.1]``."""
    assert found.difference is not None
    column, decimals = summary.columns[found.metric], numerals.percent_decimals(summary.test_size)
    amount = numerals.difference(column, found.difference, decimals)
    unit = numerals.difference_unit(column)
    bounds = interval_text(column, found.low, found.high, decimals)
    return " ".join(part for part in (amount, unit, bounds) if part)


def _cost(summary: Summary, found: Findings) -> str:
    """Return what cheap means, and that it was timed in noise where it was."""
    assert found.cost is not None
    place = summary.columns[found.cost].place
    if place is None:
        return COUNTED.get(found.cost, "size")
    noise = "; the machine was not quiet" if found.noise else ""
    return f"latency ({place.words}{noise})"


def _name(found: Row | Comparison) -> str:
    """Return a row by its labels: ``mlp_32 by kd``."""
    return f"{found.student} by {found.method}"


def _full_name(summary: Summary, found: Row | Comparison) -> str:
    """Return a row by its labels, of which its teacher is one where there are several."""
    teacher = f" (teacher {found.teacher})" if len(summary.teacher_names) > 1 else ""
    return f"{_name(found)}{teacher}"


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
