"""The report as one HTML file that works without a network, and its tables."""

from __future__ import annotations

import base64
import re
from functools import partial

import jinja2
from markupsafe import Markup, escape

from kdbench.printable import printable
from kdbench.report.blocks import Chart, Plate
from kdbench.report.content import Content
from kdbench.report.table import Table

# A drawing with more marks than this many bytes of SVG is shown faster as a picture.
LARGEST_SVG = 1_500_000


def environment() -> jinja2.Environment:
    """Return the environment of the templates; autoescape is on."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kdbench.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A line must not break between a number and its sign, nor around the = of n = 3.
    environment.filters["bound"] = lambda text: re.sub(r" ([%↑↓])| (=) ", _unbroken, text)
    # Long labels have no spaces to wrap at.
    environment.filters["breakable"] = lambda text: escape(printable(text)).replace(",", Markup(",<wbr>"))
    return environment


def _unbroken(match: re.Match[str]) -> str:
    return match.group().replace(" ", "\u00a0")


def as_html(table: Table) -> Markup:
    """Return the table as an HTML fragment; the page's script makes it sortable."""
    return Markup(environment().get_template("table.html").render(table=table))


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
