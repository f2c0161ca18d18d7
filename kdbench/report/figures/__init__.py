"""The figures of a report, one file each.

A figure is a function of a `Summary` that returns a matplotlib Figure, registered by ``@drawing`` (see
`kdbench.report.registry`) with the functions that give its title and its caption.
"""

from __future__ import annotations


class NothingToDraw(Exception):
    """The run holds no data for a figure; the text says which is missing."""
