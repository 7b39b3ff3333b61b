"""Every scorer on SIFAR-10: one recipe, two frozen models, several tail classes and draws.

The recipe is METHODS section 15: 14,398 labels, skewed; a pool of 24,000 with 2,400 of each class,
and a natural one of 17,023 with 74 rare; frozen models CNN and EFF. The cells of
benchmarks/sifar/plan.py are computed in two processes with one thread each and kept one by one
under ``--cache``: a killed run goes on where it stopped. What comes out: JSON, and beside it a
Markdown page and pictures.

    .venv/bin/python -m benchmarks.sifar10                  # everything that is reported
    .venv/bin/python -m benchmarks.sifar10 --develop --cells 'rank/eff/*' --only rarefirst,random
    .venv/bin/python -m benchmarks.sifar10 --estimate       # what is left to do, and how long
    .venv/bin/python -m benchmarks.sifar10 --table          # only write what is computed by now

Draws and tail classes with ``--develop`` are those on which everything was chosen; the others are
looked at once, at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch

from benchmarks.sifar.aggregate import Lines, gather
from benchmarks.sifar.cells import Cell, CellStore
from benchmarks.sifar.goals import goals
from benchmarks.sifar.plan import DEVELOP, REPORTED, Plan, costs
from benchmarks.sifar.plots import draw_plots
from benchmarks.sifar.prepare import prepare, reports
from benchmarks.sifar.tables import Told, page
from benchmarks.sifar.work import CellsFailed, compute
from benchmarks.stage import say
from models.files import write_text

ARCHIVE = Path("../shared/data/cifar10-train.zip")
RESULTS = Path("benchmarks/results")
FROZEN = ("cnn", "eff")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="class/NNNN.jpg in a zip")
    parser.add_argument("--cache", type=Path, default=Path("var/sifar10"))
    parser.add_argument("--out", type=Path, help="JSON; the page and pictures go beside it")
    parser.add_argument("--cells", default="*", help="pattern of cells' names, such as rank/eff/*")
    parser.add_argument("--only", type=_names, help="lines of the tables, such as rarefirst,random")
    parser.add_argument("--frozen", type=_names, default=FROZEN, help="cnn, eff or both")
    parser.add_argument("--tails", nargs="+", help="choices of tail classes: cat,truck deer,horse")
    parser.add_argument("--draws", nargs="+", type=int, help="seeds of the draws")
    parser.add_argument("--develop", action="store_true", help="tail classes and draws to try on")
    parser.add_argument(
        "--again", type=_names, default=(), help="compute these lines anew; not to go on"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--estimate", action="store_true", help="say what is left to do, and stop")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def plan_of(given: argparse.Namespace) -> Plan:
    tails, draws = DEVELOP if given.develop else REPORTED
    frozen = [name for name in FROZEN if name in given.frozen]
    return Plan(given.tails or tails, given.draws or draws, frozen)  # type: ignore[arg-type]


def chosen(given: argparse.Namespace) -> list[Cell]:
    """The cells that the options leave."""
    return [
        cell
        for cell in plan_of(given).cells()
        if fnmatchcase(cell.name, given.cells) and (not given.only or cell.entry in given.only)
    ]


def estimate(cells: Sequence[Cell], store: CellStore, workers: int) -> dict[Cell, float]:
    """Say what is left to do; expected seconds of each cell."""
    expected = costs(cells, store)
    missing = [cell for cell in cells if store.get(cell) is None]
    by_task = Counter(cell.task for cell in missing)
    tasks = ", ".join(f"{count} {task}" for task, count in by_task.items()) or "none"
    left, whole = (sum(expected[cell] for cell in some) for some in (missing, cells))
    say(
        f"{len(cells)} cells, {len(missing)} to compute ({tasks}): about "
        f"{left / workers / 60:.0f} minutes with {workers} processes; all of them "
        f"{whole / workers / 60:.0f} minutes"
    )
    return expected


def write_results(
    given: argparse.Namespace, cells: Sequence[Cell], store: CellStore, out: Path
) -> Lines:
    """The JSON, the page and the pictures."""
    plan, lines = plan_of(given), gather(cells, store)
    if not lines:
        say("nothing is computed yet: no results written")
        return lines
    command = shlex.join([".venv/bin/python", "-m", "benchmarks.sifar10", *sys.argv[1:]])
    results = [result for cell in cells if (result := store.get(cell)) is not None]
    commits = Counter(result.commit for result in results)
    found = goals(lines, plan.tails, RESULTS / "rescore.json")
    networks = reports(cells, given.cache)
    minutes = sum(result.cpu_s for result in results) / 60
    told = {
        "benchmark": "sifar10",
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "commits": dict(commits),
        "tails": list(plan.tails),
        "draws": list(plan.draws),
        "cells": len(results),
        "cells_missing": len(cells) - len(results),
        "cpu_minutes": round(minutes, 1),
        "networks": {name: asdict(report) for name, report in networks.items()},
        "goals": [asdict(goal) for goal in found],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    plots = draw_plots(lines, out.parent, out.stem)
    write_text(out, json.dumps(told, indent=1)[:-2] + f',\n "tasks": {_cases(lines)}\n}}\n')
    title = "SIFAR-10, " + ("choices for development" if given.develop else "reported choices")
    notes = [
        f"Made by `{command}` on {told['date']}: {os.cpu_count()} cores, torch "
        f"{torch.__version__}, code {', '.join(name or 'unknown' for name in commits)}. "
        f"{len(results)} of {len(cells)} cells, {minutes:.0f} minutes of processor time.",
        f"Tail classes {'; '.join(plan.tails)}; draws {', '.join(map(str, plan.draws))} of labels "
        "and ranker. docs/methods.md, section 15, has the recipe. Budgets of truncated AUC and "
        "average F keep their fractions of the pool (METHODS section 7).",
    ]
    write_text(
        out.with_suffix(".md"), page(Told(title, notes, plan.tails, found, lines, networks, plots))
    )
    say(f"{out} and {out.with_suffix('.md')} written")
    return lines


def _cases(lines: Lines) -> str:
    """By task: the names of its figures, and a case a line with their means and spreads."""
    tasks = []
    for task in dict.fromkeys(case.task for case in lines):
        some = {case: line for case, line in lines.items() if case.task == task}
        names = list(dict.fromkeys(name for line in some.values() for name in line.figures))
        rows = []
        for case, line in some.items():
            spreads = [line.figures.get(name) for name in names]
            told = {
                **{key: value for key, value in asdict(case).items() if key != "task"},
                "cells": max((spread.n for spread in spreads if spread), default=0),
                "mean": [_digits(spread.mean if spread else math.nan) for spread in spreads],
                "sd": [_digits(spread.sd if spread else math.nan) for spread in spreads],
            }
            rows.append(json.dumps(told if not line.refused else told | {"refused": line.refused}))
        listed = ",\n   ".join(rows)
        tasks.append(
            f'"{task}": {{\n  "figures": {json.dumps(names)},\n  "cases": [\n   {listed}]}}'
        )
    return "{\n  " + ",\n  ".join(tasks) + "\n }"


def _digits(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def main() -> None:
    given = parse()
    cells, store = chosen(given), CellStore(given.cache / "cells")
    if not cells:
        raise SystemExit("no cell has such a name; --estimate without --cells counts all")
    for cell in cells:
        if cell.entry in given.again:
            store.forget(cell)
    expected = estimate(cells, store, given.workers)
    if given.estimate:
        return
    missing = [cell for cell in cells if store.get(cell) is None]
    failed = ""
    if missing and not given.table:
        try:
            prepare(missing, given.archive, given.cache, given.workers)
        except FileNotFoundError as error:
            raise SystemExit(str(error)) from None
        try:
            compute(missing, expected, given.cache, given.workers)
        except CellsFailed as error:
            failed = f"these cells failed; the results are without them:\n{error}"
    out = given.out or (given.cache / "develop.json" if given.develop else RESULTS / "sifar10.json")
    write_results(given, cells, store, out)
    if failed:
        raise SystemExit(failed)


if __name__ == "__main__":
    main()
