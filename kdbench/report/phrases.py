"""Phrases that sentences of a report share: a row by its name, a difference, what a row saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdbench.analysis.comparison import ALPHA, Comparison
from kdbench.analysis.rows import Row
from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.evidence import interval_text

COUNTED = {"params": "parameters", "macs": "MACs"}
# Costs that differ by a smaller factor are called equal.
ALIKE = 1.05


def against_teacher_text(summary: Summary, comparison: Comparison, judged: int) -> str:
    """Return the difference from the teacher, or nothing where that has no value by this metric."""
    teacher = next((row for row in summary.teachers if row.teacher == comparison.teacher), None)
    level = None if teacher is None else teacher.mean(comparison.metric)
    if level is None or comparison.difference is None:
        return ""
    column, decimals = summary.columns[comparison.metric], numerals.percent_decimals(summary.test_size)
    value = f"{numerals.number(column, level, decimals)} {numerals.unit(column)}"
    name = f"its teacher {comparison.teacher} with {value.rstrip()}"
    if comparison.verdict is None:
        verdict = f"not tested: {str(comparison.reason).split(':')[0]}"
    elif comparison.verdict == "no difference shown":
        # An interval that leaves out 0 would read like a verdict: intervals are not corrected.
        excludes = comparison.p is not None and comparison.p < ALPHA
        verdict = f"not shown after correction for {judged:,} rows" if excludes else comparison.verdict
    else:
        verdict = "gain shown" if comparison.verdict == "better" else "loss shown"
    return f"{difference_text(summary, comparison)} from {name} ({verdict})"


def saved_text(summary: Summary, savings: Mapping[str, float]) -> str:
    """Return what a row costs beside its teacher: ``33× faster (CPU, batch 1), 60× fewer parameters``."""
    texts, alike = [], True
    for name, ratio in savings.items():
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
    return "at the cost of its teacher" if texts and alike else joined(texts)


def difference_text(summary: Summary, comparison: Comparison) -> str:
    """Return a difference with its unit and its 95 % interval: ``−1.0 points [−1.9, −0.1]``."""
    assert comparison.difference is not None
    column, decimals = summary.columns[comparison.metric], numerals.percent_decimals(summary.test_size)
    amount = numerals.difference(column, comparison.difference, decimals)
    unit = numerals.difference_unit(column)
    bounds = interval_text(column, comparison.low, comparison.high, decimals)
    return " ".join(part for part in (amount, unit, bounds) if part)


def name_of(subject: Row | Comparison) -> str:
    """Return a row by its labels: ``mlp_32 by kd``."""
    return f"{subject.student} by {subject.method}"


def full_name(summary: Summary, subject: Row | Comparison) -> str:
    """Return a row by its labels, of which its teacher is one where there are several."""
    teacher = f" (teacher {subject.teacher})" if len(summary.teacher_names) > 1 else ""
    return f"{name_of(subject)}{teacher}"


def joined(parts: Sequence[str]) -> str:
    """Return parts as a sentence lists them: ``a, b and c``; empty ones are left out."""
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
