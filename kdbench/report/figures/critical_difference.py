"""Methods ranked over the students: which mean ranks are too close to be told apart."""

from __future__ import annotations

from matplotlib.figure import Figure

from kdbench.analysis.standings import standings
from kdbench.analysis.summary import Summary
from kdbench.report import captions
from kdbench.report.columns import short_title
from kdbench.report.diagram import draw_ranking
from kdbench.report.figures import NothingToDraw
from kdbench.report.ranking import verdict
from kdbench.report.registry import drawing


def title(summary: Summary) -> str:
    """Say what the figure shows."""
    return f"Methods by mean rank in {short_title(summary.headline_column)}: {captions.subject(summary)}"


def caption(summary: Summary) -> str:
    """Say what the bars mean, and what was tested."""
    result = standings([summary])
    return " ".join(
        (
            f"Each student ranks the methods by its mean {short_title(summary.headline_column)} over the "
            "seeds. Methods that a thick bar joins differ by less than Nemenyi's critical "
            "difference (CD, at 0.05).",
            *verdict(result),
            *result.left_out,
        )
    )


@drawing("critical_difference", order=70, title=title, caption=caption)
def draw(summary: Summary) -> Figure:
    """Draw the diagram; raises NothingToDraw with fewer than three methods or students."""
    ranking = standings([summary]).ranking
    if ranking.reason is not None:
        raise NothingToDraw(ranking.reason)
    return draw_ranking(ranking, title(summary))
