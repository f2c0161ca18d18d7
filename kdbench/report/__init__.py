"""Tables, figures and the HTML page of a run directory. Never imports torch."""

from kdbench.report.compare import compare, render
from kdbench.report.picking import pick, render_pick
from kdbench.report.ranking import rank, render_ranks
from kdbench.report.writer import write_report

__all__ = ["compare", "pick", "rank", "render", "render_pick", "render_ranks", "write_report"]
