"""The figures of a report: every module in this package is one.

A figure module has ``ORDER`` (its place in the report), ``title(summary)``, ``caption(summary)`` and
``draw(summary) -> matplotlib.figure.Figure``. The summary that it gets is of one teacher, and holds at least
one measured student. ``draw`` raises NothingToDraw, with the reason, where the run has no data for it.
To add a figure, add a file.
"""

from __future__ import annotations


class NothingToDraw(Exception):
    """The run holds no data for a figure; the text says which is missing."""
