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


def as_page(content: Content, summary: Summary, attempts: Attempts | None = None) -> str:
    """Return index.html: tables that sort, figures, a chart with plotly.js inlined, and provenance.

    Of a chart that cannot be made ``attempts`` keeps the reason, and the page says it.
    """
    attempts = attempts or Attempts()
    chart = attempts.make("the interactive chart", None, scatter_json, summary)
    told = (f"{broken}." for broken in attempts.broken)
    content = replace(content, warnings=tuple(dict.fromkeys((*content.warnings, *told))))
    return (
        environment()
        .get_template("page.html")
        .render(
            content=content,
            main=as_html(content.main),
            differences=as_html(content.differences) if content.differences.lines else None,
            more=[
                (table.title, as_html(table))
                for table in (*content.tasks.values(), content.over_kd, content.ranks, content.runtimes)
                if table
            ],
            published=as_html(content.published) if content.published else None,
            figures=[(plate, picture(plate)) for plate in content.plates if plate.missing is None],
            missing=[plate for plate in content.plates if plate.missing is not None],
            chart=None if chart is None else Markup(chart),
            plotly=None if chart is None else Markup(get_plotlyjs()),
        )
    )


def picture(plate: Plate) -> str:
    """Return a figure as a data URI: SVG, or PNG where the SVG would be slow to show."""
    kind, data = ("svg+xml", plate.svg) if len(plate.svg) <= LARGEST_SVG else ("png", plate.png)
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
