"""Found against labels as a PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from models.plots.curves import Curve, coloured

_SIZE_IN, _DPI = (7.6, 4.2), 110


def write_png(path: Path, curves: Sequence[Curve], *, title: str, total: int) -> None:
    """Draw the curves with their intervals; the file appears whole or not at all.

    Args:
        path: where to; its folder exists.
        curves: one or more.
        title: above the plot.
        total: rare ones that there are: a line, and the top of the axis.
    Raises: ShapeError: if there is nothing to draw.
    """
    # A figure of its own, no pyplot: nothing global, and no display is looked for.
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for curve, colour in coloured(curves):
        axes.fill_between(curve.labels, curve.low, curve.high, color=colour, alpha=0.15, lw=0)
        axes.plot(
            curve.labels,
            curve.found,
            color=colour,
            lw=1.6 if curve.baseline else 2.2,
            ls="--" if curve.baseline else "-",
            label=f"{curve.name}: {curve.found[-1]:.3g}",
        )
    axes.axhline(total, color="#c9ced6", lw=1, zorder=0)
    axes.set(
        xlabel="labels given",
        ylabel="rare ones found",
        xlim=(0, max(curve.labels[-1] for curve in curves)),
        ylim=(0, total * 1.04),
    )
    # A name may hold dollar signs: it is no formula.
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
    axes.grid(axis="y", color="#e6e9ed", lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.png")
    try:
        figure.savefig(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
