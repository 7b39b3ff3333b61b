"""Detection: how well each scorer finds tiles with rare blood cells, and what that teaches.

Cells are computed in processes of one thread each and kept under ``--cache``; a killed run goes on
inside the cell where it stopped. What comes out: JSON, and beside it a page.

    .venv/bin/python -m benchmarks.bccd                             # two processor cores
    .venv/bin/python -m benchmarks.bccd --tails white --seeds 0     # a part of it
    .venv/bin/python -m benchmarks.bccd --table                     # compute nothing
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.blood.cells import (
    BUDGETS,
    FINETUNE,
    MINED,
    TAILS,
    TRAINING,
    cell_path,
    mine,
    tune,
)
from benchmarks.blood.page import goals, mined, page, tuned
from benchmarks.blood.tiles import read_tiles
from benchmarks.sifar.processes import single_thread_variables, start_worker
from benchmarks.stage import say
from models.files import write_text

ARCHIVE = Path("../shared/data/bccd-trainval.zip")
OUT = Path("benchmarks/results/bccd.json")

Job = tuple[argparse.Namespace, str, int, str, int]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="VOC boxes in a zip")
    parser.add_argument("--cache", type=Path, default=Path("var/bccd-tiles"))
    parser.add_argument("--out", type=Path, default=OUT, help="JSON; the page goes beside it")
    parser.add_argument("--tails", nargs="+", choices=list(TAILS), default=list(TAILS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    return parser.parse_args(arguments)


def main() -> None:
    """Compute what is missing, and tell all."""
    given = parse()
    cells = [(tail, seed) for seed in given.seeds for tail in given.tails]
    steps = [(scorer, budget) for budget in BUDGETS for scorer in MINED]
    if not given.table:
        _compute(given, cells, steps)
    told = _told(given, cells, steps)
    if not told["mined"]:
        say("nothing is computed yet: no results written")
        return
    write_text(given.out, json.dumps(told, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), page(told))
    print(json.dumps(told, indent=1))


def _told(
    given: argparse.Namespace, cells: list[tuple[str, int]], steps: list[tuple[str, int]]
) -> dict[str, Any]:
    every: dict[str, dict[str, list[dict[str, Any]]]] = {
        tail: {"mine": [], "tune": []} for tail in given.tails
    }
    for tail, seed in cells:
        names = {"mine": "mine", **{f"tune-{s}-{b}": "tune" for s, b in steps}}
        for name, kind in names.items():
            path = cell_path(given.cache, tail, seed, name)
            if path.exists():
                every[tail][kind].append(json.loads(path.read_text()))
    found = [one for some in every.values() for kind in some.values() for one in kind]
    told: dict[str, Any] = {
        "benchmark": "bccd",
        "command": shlex.join([".venv/bin/python", "-m", "benchmarks.bccd", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "training": TRAINING.model_dump(),
        "fine_tuning": FINETUNE.model_dump(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "commits": dict(Counter(one["commit"] for one in found if "commit" in one)),
        "cells": len(found),
        "cells_missing": len(cells) * (1 + len(steps)) - len(found),
        "cpu_minutes": round(sum(one["cpu_s"] for one in found) / 60, 1),
        "mined": {tail: mined(some["mine"]) for tail, some in every.items() if some["mine"]},
        "tuned": {tail: tuned(some["tune"]) for tail, some in every.items()},
    }
    return told | {"goals": goals(told)}


def _compute(
    given: argparse.Namespace, cells: list[tuple[str, int]], steps: list[tuple[str, int]]
) -> None:
    read_tiles(given.archive, given.cache)
    first: list[Job] = [(given, tail, seed, "", 0) for tail, seed in cells]
    rest: list[Job] = [
        (given, tail, seed, scorer, budget) for scorer, budget in steps for tail, seed in cells
    ]
    single_thread_variables()
    context = multiprocessing.get_context("spawn")
    for jobs in (first, rest):
        missing = [job for job in jobs if not _path(job).exists()]
        say(f"{len(jobs)} cells, {len(missing)} to compute")
        with context.Pool(given.workers, initializer=start_worker) as pool:
            for _ in pool.imap_unordered(_one, missing):
                pass


def _path(job: Job) -> Path:
    given, tail, seed, scorer, budget = job
    name = f"tune-{scorer}-{budget}" if scorer else "mine"
    return cell_path(given.cache, tail, seed, name)


def _one(job: Job) -> None:
    given, tail, seed, scorer, budget = job
    tiles = read_tiles(given.archive, given.cache)
    if scorer:
        tune(tiles, tail, seed, scorer, budget, given.cache)
    else:
        mine(tiles, tail, seed, given.cache)


if __name__ == "__main__":
    main()
