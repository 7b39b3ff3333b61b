"""Draw what ``make demo HEADLESS=1`` found: rare tasks found against labels given, as SVG.

.venv/bin/python docs/plot_demo.py [.demo/headless.json] [docs/images/found.svg]

Dependency-free on purpose: the picture stands in the README and is drawn anew after a run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 48, 52
OURS, RANDOM, INK, GRID = "#0b6bcb", "#8a8f98", "#1f2328", "#d8dce2"


@dataclass(frozen=True)
class Run:
    """One seed of the headless demo.

    Attributes:
        labels: labels given at the end of each batch, from 0.
        found: rare tasks found by then.
        random: what random order is expected to have found by then.
        rare_total: rare tasks in the pool.
        pool: tasks in the pool.
    """

    labels: tuple[int, ...]
    found: tuple[int, ...]
    random: tuple[float, ...]
    rare_total: int
    pool: int


def read_runs(path: Path) -> list[Run]:
    """The runs that the demo wrote down."""
    return [
        Run(
            labels=(0, *(batch["labels"] for batch in run["batches"])),
            found=(0, *(batch["rare_so_far"] for batch in run["batches"])),
            random=(0.0, *(batch["random_so_far"] for batch in run["batches"])),
            rare_total=run["rare_total"],
            pool=run["pool"],
        )
        for run in json.loads(path.read_text())
    ]


def draw(runs: Sequence[Run]) -> str:
    """An SVG of all runs: one line a seed, the mean named at the end.

    Raises: ValueError: where there is no run with a batch.
    """
    if not runs or len(runs[0].labels) < 2:
        raise ValueError("found no batch to draw; run `make demo HEADLESS=1` first")
    most = max(run.labels[-1] for run in runs)
    highest = max(run.rare_total for run in runs)

    def x(labels: float) -> float:
        return LEFT + labels / most * (WIDTH - LEFT - RIGHT)

    def y(found: float) -> float:
        return HEIGHT - BOTTOM - found / highest * (HEIGHT - TOP - BOTTOM)

    seeds = "1 seed" if len(runs) == 1 else f"{len(runs)} seeds"
    title = f"Rare tasks found of {highest}, in a pool of {runs[0].pool:,} digits ({seeds})"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}" role="img">',
        f"<title>{title}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="26" font-size="15" font-weight="600">{title}</text>',
    ]
    parts.extend(
        f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
        f'<text x="{LEFT - 10}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>'
        for value in range(0, highest + 1, 5)
    )
    parts.extend(
        f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{value}</text>'
        for value in range(0, most + 1, 20)
    )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" '
        'text-anchor="middle">labels given</text>'
    )
    width = 2.5 if len(runs) == 1 else 1.5
    parts.extend(_line(run.labels, run.random, x, y, RANDOM, 1.5, dashed=True) for run in runs)
    parts.extend(_line(run.labels, run.found, x, y, OURS, width) for run in runs)
    end = sum(run.found[-1] for run in runs) / len(runs)
    chance = sum(run.random[-1] for run in runs) / len(runs)
    parts.extend(
        f'<text x="{WIDTH - RIGHT + 10}" y="{y(mean) + 4:.1f}" fill="{colour}" '
        f'font-weight="600">{words}</text>'
        for mean, colour, words in (
            (end, OURS, f"rarefirst: {end:.4g}"),
            (chance, RANDOM, f"random: {chance:.2g}"),
        )
    )
    return "\n".join([*parts, "</svg>", ""])


def _line(
    labels: Sequence[float],
    values: Sequence[float],
    x: Callable[[float], float],
    y: Callable[[float], float],
    colour: str,
    width: float,
    *,
    dashed: bool = False,
) -> str:
    points = " ".join(
        f"{x(label):.1f},{y(value):.1f}" for label, value in zip(labels, values, strict=True)
    )
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" '
        f'stroke-width="{width}"{dashes}/>'
    )


if __name__ == "__main__":
    given = [Path(argument) for argument in sys.argv[1:]]
    source = given[0] if given else ROOT / ".demo" / "headless.json"
    target = given[1] if len(given) > 1 else ROOT / "docs" / "images" / "found.svg"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(draw(read_runs(source)))
    sys.stdout.write(f"{target}\n")
