"""The report as one HTML file that works without a network."""

from __future__ import annotations

import base64
from dataclasses import replace

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from kdbench.analysis.summary import Summary
from kdbench.report.attempts import Attempts
from kdbench.report.content import Content
from kdbench.report.gallery import Plate
from kdbench.report.rendering import as_html, environment
from kdbench.report.scatter import scatter_json

# A drawing with more marks than this many bytes of SVG is shown faster as a picture.
LARGEST_SVG = 1_500_000


def as_page(
    content: Content, summary: Summary, attempts: Attempts | None = None, figures: str | None = None
) -> str:
    """Return index.html: the answer, tables that sort, figures, a chart with plotly.js inlined, provenance.

    With the address of a folder ``figures`` it is lean: pictures are linked there, and there is no chart. Of
    a chart that cannot be made ``attempts`` keeps the reason, and the page says it.
    """
    attempts = attempts or Attempts()
    chart = attempts.make("the interactive chart", None, scatter_json, summary) if figures is None else None
    told = (f"{broken}." for broken in attempts.broken)
    content = replace(content, warnings=tuple(dict.fromkeys((*content.warnings, *told))))
    return (
        environment()
        .get_template("page.html")
        .render(
            content=content,
            main=as_html(content.headline),
            recipes=[as_html(table) for table in content.recipes],
            control_table=as_html(content.control_table) if content.control_table else None,
            differences=as_html(content.differences) if content.differences.lines else None,
            more=[
                (table.title, as_html(table))
                for table in (
                    content.further,
                    *content.of_tasks,
                    content.over_kd,
                    content.ranks,
                    content.runtimes,
                )
                if table
            ],
            published=as_html(content.published) if content.published else None,
            figures=[(plate, picture(plate, figures)) for plate in content.plates if plate.missing is None],
            lean=figures is not None,
            missing=[plate for plate in content.plates if plate.missing is not None],
            chart=None if chart is None else Markup(chart),
            plotly=None if chart is None else Markup(get_plotlyjs()),
        )
    )


def picture(plate: Plate, folder: str | None = None) -> str:
    """Return a figure's address in ``folder``, or itself as a data URI: SVG, or PNG where that is quicker."""
    slow = len(plate.svg) > LARGEST_SVG
    if folder is not None:
        return f"{folder}/{plate.stem}.{'png' if slow else 'svg'}"
    kind, data = ("png", plate.png) if slow else ("svg+xml", plate.svg)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
