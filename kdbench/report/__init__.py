"""Tables, figures and the HTML page of a run directory. Never imports torch."""

from kdbench.report.compare import compare, render
from kdbench.report.writer import write_report

__all__ = ["compare", "render", "write_report"]
