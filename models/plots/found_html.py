"""Found against labels as one HTML file, plotly's JavaScript inside: it opens without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.files import write_text
from models.plots.curves import Curve, coloured

_FAINT = "26"  # of ff: how opaque an interval is


def write_html(path: Path, curves: Sequence[Curve], *, title: str, total: int) -> None:
    """Write the page; the file (about 5 MB, nearly all of it plotly) appears whole or not at all.

    Args:
        path: where to.
        curves: one or more.
        title: above the plot.
        total: rare ones that there are: a line, and the top of the axis.
    Raises: ShapeError: if there is nothing to draw.
    """
    from plotly.graph_objects import Figure, Scatter
    from plotly.io import to_html

    figure = Figure()
    for curve, colour in coloured(curves):
        figure.add_trace(
            Scatter(
                x=[*curve.labels, *reversed(curve.labels)],
                y=[*curve.high, *reversed(curve.low)],
                mode="lines",
                fill="toself",
                fillcolor=f"{colour}{_FAINT}",
                line={"width": 0},
                hoverinfo="skip",
                legendgroup=curve.name,
                showlegend=False,
            )
        )
        figure.add_trace(
            Scatter(
                x=list(curve.labels),
                y=list(curve.found),
                customdata=list(zip(curve.low, curve.high, strict=True)),
                name=curve.name,
                mode="lines",
                legendgroup=curve.name,
                line={"color": colour, "dash": "dash" if curve.baseline else "solid"},
                hovertemplate="%{y:.3g} (%{customdata[0]:.3g} to %{customdata[1]:.3g})",
            )
        )
    figure.add_hline(y=total, line={"color": "#c9ced6", "width": 1})
    figure.update_layout(
        # Names of data sets and scorers are shown, not taken as markup.
        title={"text": title.replace("<", "&lt;")},
        xaxis={"title": {"text": "labels given"}, "rangemode": "tozero"},
        yaxis={"title": {"text": "rare ones found"}, "range": [0, total * 1.04]},
        hovermode="x unified",
        template="plotly_white",
    )
    page = to_html(
        figure, include_plotlyjs=True, full_html=True, div_id="found", default_height="95vh"
    )
    write_text(path, page)
