"""The settings of matplotlib that every figure is drawn with, and their greys."""

from __future__ import annotations

from typing import Any

INK = "#222222"
FAINT = "#8a8a8a"
GRID = "#e4e4e4"

# Any: the stubs list each of the parameters, in types that a plain dictionary cannot show.
PARAMETERS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "kdbench",
    "pdf.fonttype": 42,
    # Labels are a user's words: a $ in them is no mathematics.
    "text.parse_math": False,
}
