"""What the controls say: whether a method gives more than accuracy and regularisation alone."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.comparison import CONTROL, Comparison, compare_methods
from kdbench.analysis.summary import Summary
from kdbench.analysis.transfer import Transfer, against_random_teachers, transfers
from kdbench.report import numerals
from kdbench.report.claims import statements
from kdbench.report.columns import is_cost
from kdbench.report.evidence import p_text
from kdbench.report.headline import main_table
from kdbench.report.table import Table


def control_table(summary: Summary, metric: str | None = None, baseline: str = CONTROL) -> Table | None:
    """Return the rows with a random teacher, which cost what the methods do that they repeat.

    None where the run has none. Raises UserError for an unknown metric or baseline.
    """
    if not summary.repeats:
        return None
    metric = metric or summary.headline
    table = main_table(summary, metric, baseline, repeats=True)
    keys = [heading.key for heading in table.headings if not is_cost(heading) or heading.key == metric]
    legend = (
        *(text for text in table.legend if text.startswith("Δ")),
        "These rows are controls and no results: a family of their own in that correction, and in no figure.",
    )
    return table.only(keys, f"Controls: {summary.columns[metric].title} with a random teacher", legend)


def control_claims(summary: Summary) -> list[str]:
    """Return what a run's controls show, a sentence a claim; nothing where it has no controls."""
    excesses = transfers(summary)
    claims = [*_references(summary)] if excesses else []
    claims += [_sentence(summary, transfer) for transfer in excesses]
    if not summary.repeats:
        return claims
    claims.append(
        "With a random teacher, a method learns from its teacher's logits in an order that is random for "
        "each example: what it then still gains is regularisation, not transfer."
    )
    regularised = compare_methods(summary, repeats=True)
    return claims + statements(summary, [*regularised, *against_random_teachers(summary)])


def _references(summary: Summary) -> Iterator[str]:
    """Say what to measure the claims by."""
    decimals = numerals.percent_decimals(summary.test_size)
    for row in summary.teachers:
        level = row.mean("agreement_independent")
        if level is not None:
            share = numerals.percent(level, decimals)
            yield f"Two trainings of {row.teacher}, the teacher and the independent one, agree on {share} %."
    if CONTROL in summary.methods:
        yield (
            f"{CONTROL} has learned from neither: its excess is what the two teachers themselves make. "
            "Transfer is what a method has beyond it. Both teachers are single trainings, whose chance no "
            "interval here covers."
        )


def _sentence(summary: Summary, transfer: Transfer) -> str:
    """Return one row's claim.

    For example ``mlp_64: kd agrees more with its teacher than with the independent one, +4.0 points [+2.1,
    +5.9], n = 3, p = 0.009 (Holm); beyond the excess of scratch by +3.5 points [+1.0, +6.0], ...``.
    """
    own, beyond = transfer.excess, transfer.beyond
    teacher = f" (teacher {own.teacher})" if len(summary.teacher_names) > 1 else ""
    head = f"{own.student}{teacher}: {own.method}"
    if own.difference is None:
        return f"{head} has no excess of agreement: {own.reason}"
    decimals = numerals.percent_decimals(summary.test_size)
    evidence = _evidence(own, decimals)
    if own.verdict in ("better", "worse"):
        more = "more" if own.verdict == "better" else "less"
        text = f"{head} agrees {more} with its teacher than with the independent one, {evidence}"
    else:
        text = f"{head}: no excess of agreement over the independent teacher shown ({evidence})"
    if beyond is None:
        return text
    if beyond.difference is None:
        return f"{text}; not compared with {CONTROL}: {beyond.reason}"
    evidence = _evidence(beyond, decimals)
    if beyond.verdict in ("better", "worse"):
        side = "beyond" if beyond.verdict == "better" else "below"
        return f"{text}; {side} the excess of {CONTROL}, {evidence}"
    return f"{text}; no difference from the excess of {CONTROL} shown ({evidence})"


def _evidence(comparison: Comparison, decimals: int) -> str:
    def points(value: float | None) -> str:
        return numerals.points(value, decimals)

    text = f"{points(comparison.difference)} points"
    if comparison.low is not None and comparison.high is not None:
        text += f" [{points(comparison.low)}, {points(comparison.high)}]"
    text += f", n = {comparison.n}"
    if comparison.p_holm is None:
        return f"{text}, not tested: {comparison.reason}"
    return f"{text}, {p_text(comparison.p_holm)} (Holm)"
