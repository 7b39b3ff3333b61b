"""The curves as pictures: precision against recall, found against labels, reliability."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.sifar.aggregate import ALL, Case, Line, Lines
from benchmarks.sifar.cells import FrozenName, Result
from benchmarks.sifar.ranking import CURVE_AT
from benchmarks.sifar.rounds import BATCH, ROUNDS
from benchmarks.sifar.split import NATURAL, POOL
from models.plots.curves import COLOURS, GREY, Curve
from models.plots.found_png import write_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FROZEN: tuple[FrozenName, ...] = ("cnn", "eff")
_DRAWN = ("rarefirst", "tail_mass_rc", "tail_mass", "paper", "galaxy", "direct", "mahalanobis")
_BASELINE = "random"
_RARE, _IN_UNIFORM = sum(NATURAL[:2]), 2 * POOL
_SIZE_IN, _DPI = (11.0, 4.2), 110


def draw_plots(lines: Lines, folder: Path, name: str) -> list[str]:
    """Draw what was measured.

    Args:
        lines: over all tail choices.
        folder: where the pictures go.
        name: begins their names.
    Returns: names of the files.
    """
    written = []
    for frozen in _FROZEN:
        curves = _found_curves(lines, frozen)
        if curves:
            file = f"{name}-found-{frozen}.png"
            title = f"SIFAR-10, natural pool, {frozen.upper()}: five rounds of {BATCH} labels"
            write_png(folder / file, curves, title=title, total=_RARE)
            written.append(file)
    for file, draw in (
        (f"{name}-precision-recall.png", _precision_recall),
        (f"{name}-reliability.png", _reliability),
    ):
        figure = draw(lines)
        if figure is not None:
            _save(figure, folder / file)
            written.append(file)
    return written


def _line(lines: Lines, case: Case) -> Line | None:
    line = lines.get(case)
    return line if line is not None and line.figures else None


def _results(line: Line) -> list[Result]:
    return [result for some in line.results.values() for result in some]


def _found_curves(lines: Lines, frozen: FrozenName) -> list[Curve]:
    """Mean found by every tenth label, and the draws' standard deviation to either side."""
    at = np.arange(0, ROUNDS * BATCH + 1, 10)
    curves = []
    for entry in (*_DRAWN, _BASELINE):
        line = _line(lines, Case("rounds", frozen, None, entry, ALL))
        if line is not None:
            groups = [
                np.stack([_found_by(result, at) for result in some])
                for some in line.results.values()
            ]
            mean = np.concatenate(groups).mean(axis=0)
            # The draws' noise, as in the tables: not how the tail choices differ.
            several = [group.var(axis=0, ddof=1) for group in groups if len(group) > 1]
            sd = np.sqrt(np.mean(several, axis=0)) if several else np.zeros(len(at))
            curves.append(
                Curve(
                    entry,
                    at.tolist(),
                    mean.tolist(),
                    (mean - sd).tolist(),
                    (mean + sd).tolist(),
                    baseline=entry == _BASELINE,
                )
            )
    return curves


def _found_by(result: Result, at: NDArray[np.int64]) -> NDArray[np.int64]:
    places = sorted(result.curves["found_at.rarer"] + result.curves["found_at.rare"])
    found: NDArray[np.int64] = np.searchsorted(places, at, side="right").astype(np.int64)
    return found


def _precision_recall(lines: Lines) -> Figure | None:
    figure, panels = _panels()
    drawn = False
    for axes, frozen in zip(panels, _FROZEN, strict=True):
        for entry, colour in zip((*_DRAWN, _BASELINE), (*COLOURS, GREY), strict=False):
            line = _line(lines, Case("rank", frozen, None, entry, ALL))
            if line is not None:
                found = np.mean([r.curves["uniform.found"] for r in _results(line)], axis=0)
                ap = line.figures["uniform.ap"].mean
                # Before the first few the precision of a mean over draws is all steps.
                seen = CURVE_AT >= 10
                axes.plot(
                    found[seen] / _IN_UNIFORM,
                    found[seen] / CURVE_AT[seen],
                    label=f"{entry}: AP {ap:.3f}",
                    color=GREY if entry == _BASELINE else colour,
                    ls="--" if entry == _BASELINE else "-",
                )
                drawn = True
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        _name(axes, f"uniform pool, {frozen.upper()}")
    return figure if drawn else None


def _reliability(lines: Lines) -> Figure | None:
    figure, panels = _panels()
    drawn = False
    shown = (
        ("likelihood", "uniform.true_priors", "uniform pool"),
        ("likelihood", "natural.true_priors", "natural pool"),
        ("rounds", "after_rounds", "natural pool, after five rounds"),
    )
    for axes, frozen in zip(panels, _FROZEN, strict=True):
        axes.plot([0, 1], [0, 1], color=GREY, ls="--", lw=1)
        for (task, name, words), colour in zip(shown, COLOURS, strict=False):
            case = Case("rounds" if task == "rounds" else "likelihood", frozen, None, "rarefirst")
            line = _line(lines, case)
            if line is not None:
                likelihood, share = _pooled_bins(_results(line), name)
                error = line.figures[f"{name}.ece"].mean
                axes.plot(
                    likelihood, share, "o-", color=colour, label=f"{words}: error {error:.3f}"
                )
                drawn = True
        axes.set(xlabel="rarity", ylabel="share of rare", xlim=(0, 1), ylim=(0, 1))
        _name(axes, f"rarefirst, {frozen.upper()}")
    return figure if drawn else None


def _pooled_bins(results: Sequence[Result], name: str) -> tuple[list[float], list[float]]:
    """Mean likelihood and share of each bin over all draws, by their counts."""
    sums: dict[float, NDArray[np.float64]] = {}
    for result in results:
        parts = (
            result.curves[f"{name}.{key}"] for key in ("bin", "count", "likelihood", "observed")
        )
        for low, count, likelihood, share in zip(*parts, strict=True):
            added = np.array([count, count * likelihood, count * share])
            sums[low] = sums.get(low, np.zeros(3)) + added
    means = [sums[low][1:] / sums[low][0] for low in sorted(sums)]
    return [float(m[0]) for m in means], [float(m[1]) for m in means]


def _panels() -> tuple[Figure, Sequence[Axes]]:
    # Imported where it draws: it takes a second. No pyplot: nothing global.
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    panels = figure.subplots(1, len(_FROZEN))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e9ed", lw=0.8)
    return figure, list(panels)


def _name(axes: Axes, title: str) -> None:
    """A title, and a legend where there is something to name."""
    axes.set_title(title, loc="left", fontsize=11)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.png")
    figure.savefig(temporary)
    temporary.replace(path)
