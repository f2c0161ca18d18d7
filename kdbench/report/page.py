"""The report as one HTML file that works without a network."""

from __future__ import annotations

import base64
from functools import partial

from markupsafe import Markup

from kdbench.report.blocks import Chart, Plate
from kdbench.report.content import Content
from kdbench.report.rendering import as_html, environment

# A drawing with more marks than this many bytes of SVG is shown faster as a picture.
LARGEST_SVG = 1_500_000


def as_page(content: Content, figures: str | None = None) -> str:
    """Return index.html: the answer, tables that sort, figures, a chart with plotly.js inlined, provenance.

    With the address of a folder ``figures`` it is lean: pictures are linked there.
    """
    charts = [block for part in content.parts for block in part.blocks if isinstance(block, Chart)]
    return (
        environment()
        .get_template("page.html")
        .render(
            content=content,
            as_html=as_html,
            picture=partial(picture, folder=figures),
            lean=figures is not None,
            chart=Markup(charts[0].json) if charts else None,
            plotly=_plotly() if charts else None,
        )
    )


def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs  # a lean page does without its imports

    return Markup(get_plotlyjs())


def picture(plate: Plate, folder: str | None = None) -> str:
    """Return a figure's address in ``folder``, or itself as a data URI: SVG, or PNG where that is quicker."""
    slow = len(plate.svg) > LARGEST_SVG
    if folder is not None:
        return f"{folder}/{plate.stem}.{'png' if slow else 'svg'}"
    kind, data = ("png", plate.png) if slow else ("svg+xml", plate.svg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
