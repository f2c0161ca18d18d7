"""The comparison table of a run, as rows and in the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from kdbench.analysis.comparison import ALPHA, CONTROL, Comparison, compare_methods
from kdbench.analysis.composite import netscore_of
from kdbench.analysis.published import find_published
from kdbench.analysis.summary import Summary, summarise
from kdbench.printable import counted, printable
from kdbench.report.answer import answer
from kdbench.report.claims import how_to_read, statements
from kdbench.report.evidence import detectable_note, examples_note
from kdbench.report.fidelity import control_table
from kdbench.report.headline import main_table
from kdbench.report.published import cautions, with_published
from kdbench.report.renderers.terminal import print_table

# More claims than this would bury the ones that show a difference.
MANY_CLAIMS = 40
MANY_FAILURES = 10


def compare(
    path: str | Path, metric: str | None = None, baseline: str = CONTROL, published: bool = False
) -> list[dict[str, Any]]:
    """Return the rows of the comparison table, keyed by column names; JSON can hold them.

    A row has its identity (role, teacher, student, method), ``control_of`` (the method that it repeats with a
    random teacher; these controls come last, without costs), n, each shown column with ``_low`` and
    ``_high``, ``difference`` with its interval, ``p``, ``p_holm`` and ``verdict``, ``pareto``, and
    ``netscore`` (of top-1 in percent, parameters in M, MACs in G). Of a
    difference it also has ``detectable`` (the smallest that the run could have shown), ``p_better`` and what
    the ``examples`` tell: ``difference_examples_low`` (bootstrap over test examples), ``difference_both_low``
    (over seeds and examples), each with its ``_high``, ``mcnemar_p``, ``_by_seed`` and ``_holm``. What could
    not be computed is None; ``detectable_reason`` and ``difference_both_reason`` say why. With ``published``
    it also has ``published`` (a proportion, like ``top1``), ``published_epoch``, ``published_source`` and
    ``published_difference``, all None for a row without a published figure, and ``published_note``, which
    says in what the row was made otherwise than the figure, or why there are no figures. Raises UserError for
    a path, metric or baseline that does not exist.
    """
    summary = summarise(path)
    table = main_table(summary, metric, baseline)
    shown = with_published(table, summary, find_published(summary)) if published else table
    rows = [
        values | {"control_of": None, "netscore": netscore_of(row)}
        for values, row in zip(shown.as_rows(), summary.without_repeats().rows, strict=True)
    ]
    controls = control_table(summary, metric, baseline)
    if controls is None:
        return rows
    empty = dict.fromkeys(rows[0])
    return rows + [empty | row | {"control_of": summary.repeats[row["method"]]} for row in controls.as_rows()]


def render(
    path: str | Path,
    console: Console,
    metric: str | None = None,
    baseline: str = CONTROL,
    published: bool = False,
) -> None:
    """Print the comparison table and its controls, a sentence a claim, how to read them, and the answer."""
    summary = summarise(path)
    table = main_table(summary, metric, baseline)
    comparisons = compare_methods(summary, metric, baseline)
    figures = find_published(summary) if published else None
    if figures is not None and figures.matches:
        table = with_published(table, summary, figures)
    print_table(table, console)
    controls = control_table(summary, metric, baseline)
    if controls is not None:
        console.print()
        print_table(controls, console)
    console.print()
    for sentence in _claims(summary, comparisons):
        console.print(Text(_hanging(sentence, console.width)))
    console.print()
    notes = [*how_to_read(summary, comparisons), *examples_note(comparisons), *detectable_note(comparisons)]
    for text in [*(cautions(figures) if figures else []), *notes]:
        console.print(Text(_hanging(f"Note: {text}", console.width)))
    for text in _failures(summary):
        console.print(Text(_hanging(text, console.width), style="red"))
    console.print()
    # Last, where it is in sight when all is printed.
    console.print(Text("In short", style="bold"))
    for sentence in answer(summary, metric, baseline):
        console.print(Text(_hanging(sentence, console.width)))


def _claims(summary: Summary, comparisons: list[Comparison]) -> list[str]:
    """Return a sentence for each claim; those that say the same of many comparisons are put together."""
    if comparisons and all(comparison.p is None for comparison in comparisons):
        reasons = Counter(str(comparison.reason) for comparison in comparisons)
        untested = [f"{counted(number, 'comparison')} not tested: {why}." for why, number in reasons.items()]
        return [*untested, *_trained_models(comparisons)]
    sentences = statements(summary, comparisons)
    if len(sentences) <= MANY_CLAIMS:
        return sentences
    shown = [text for text in sentences if "no difference shown" not in text]
    others = "other comparison" if shown else "comparison"
    return [*shown, f"No difference shown in {counted(len(sentences) - len(shown), others)}."]


def _trained_models(comparisons: list[Comparison]) -> list[str]:
    """Say of how many pairs of models, as they were trained, McNemar's test shows a difference."""
    ps = [comparison.examples.p_holm for comparison in comparisons if comparison.examples.p_holm is not None]
    if not ps:
        return []
    different = sum(p < ALPHA for p in ps)
    return [
        f"As they were trained, {different} of {counted(len(ps), 'model')} differ from "
        f"{comparisons[0].baseline} on this test set (McNemar, p < 0.05 after Holm's correction)."
    ]


def _failures(summary: Summary) -> list[str]:
    lines = []
    for failure in summary.failures[:MANY_FAILURES]:
        parts = (failure.student or failure.teacher, failure.method, f"seed {failure.seed}")
        lines.append(f"{failure.status}: {', '.join(part for part in parts if part)}: {failure.reason}")
    if len(summary.failures) > MANY_FAILURES:
        lines.append(
            f"... and {len(summary.failures) - MANY_FAILURES} more failed or skipped; the report lists them."
        )
    return lines


def _hanging(text: str, width: int) -> str:
    return textwrap.fill(printable(text), width, subsequent_indent="    ", break_on_hyphens=False)
