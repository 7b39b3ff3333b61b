"""Every rebalancing strategy on CIFAR-10 with a long tail, same pictures and budget, from scratch.

Cells (strategy and seed) are computed in processes of one thread each and kept under ``--cache``; a
killed run goes on inside the cell where it stopped. What comes out: JSON, and beside it a page.

    .venv/bin/python -m benchmarks.cifar_lt                                  # two processor cores
    .venv/bin/python -m benchmarks.cifar_lt --preset paper --device cuda:0   # as published
    .venv/bin/python -m benchmarks.cifar_lt --strategies erm,m2m --seeds 0   # a part of it
    .venv/bin/python -m benchmarks.cifar_lt --table                          # compute nothing
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

import numpy as np
import torch

from benchmarks.long_tail.cells import cell_path, compute_cell
from benchmarks.long_tail.figures import judged, summary
from benchmarks.long_tail.page import page
from benchmarks.long_tail.presets import PRESETS, Preset
from benchmarks.long_tail.profile import long_tail_counts
from benchmarks.sifar.pictures import read_pictures
from benchmarks.sifar.processes import single_thread_variables, start_worker
from benchmarks.stage import say
from models.files import write_text
from models.rebalancing import make_strategy

ARCHIVE = Path("../shared/data/cifar10-train.zip")
RESULTS = Path("benchmarks/results")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="class/NNNN.jpg in a zip")
    parser.add_argument("--cache", type=Path, default=Path("var/cifar_lt"))
    parser.add_argument("--pixels", type=Path, default=Path("var/sifar10"), help="decoded pictures")
    parser.add_argument("--out", type=Path, help="JSON; the page goes beside it")
    parser.add_argument("--strategies", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="processes; 1 on a GPU")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    return parser.parse_args(arguments)


def main() -> None:
    given = parse()
    preset = PRESETS[given.preset]
    strategies = given.strategies or preset.strategies
    cells = [(name, seed) for seed in given.seeds for name in strategies]
    if not given.table:
        _compute(given, preset, cells)
    results = [
        json.loads(path.read_text())
        for name, seed in cells
        if (path := cell_path(given.cache, preset, name, seed)).exists()
    ]
    if not results:
        say("nothing is computed yet: no results written")
        return
    counts = long_tail_counts(preset.most, preset.ratio)
    lines = {
        name: summary([r for r in results if r["strategy"] == name])
        for name in strategies
        if any(r["strategy"] == name for r in results)
    }
    told: dict[str, Any] = {
        "benchmark": "cifar_lt",
        "command": shlex.join([".venv/bin/python", "-m", "benchmarks.cifar_lt", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "preset": given.preset,
        "network": preset.network,
        "counts": counts,
        "test_pictures_a_class": 500,
        "seeds": given.seeds,
        "config": preset.config.model_dump(),
        "device": given.device,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "commits": dict(Counter(r["commit"] for r in results)),
        "cells": len(results),
        "cells_missing": len(cells) - len(results),
        "cpu_minutes": round(sum(r["cpu_s"] for r in results) / 60, 1),
        "goals": judged(lines),
        "strategies": lines,
    }
    out = given.out or RESULTS / f"cifar_lt-{given.preset}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(told, indent=1) + "\n")
    write_text(out.with_suffix(".md"), page(told))
    print(json.dumps(told, indent=1))


def _compute(given: argparse.Namespace, preset: Preset, cells: list[tuple[str, int]]) -> None:
    """Those of erm first: they are the networks g of the others."""
    pictures = read_pictures(given.archive, given.pixels)
    missing = [cell for cell in cells if not cell_path(given.cache, preset, *cell).exists()]
    given.cache.mkdir(parents=True, exist_ok=True)
    say(f"{len(cells)} cells, {len(missing)} to compute")
    first = [cell for cell in missing if cell[0] == "erm"]
    # Then the long ones, so that the end is not spent waiting for one worker.
    rest = sorted(
        (cell for cell in missing if cell[0] != "erm"),
        key=lambda cell: not make_strategy(cell[0], {}).needs_reference,
    )
    if given.workers == 1:
        for name, seed in [*first, *rest]:
            compute_cell(preset, name, seed, pictures, given.cache, given.device)
        return
    single_thread_variables()
    context = multiprocessing.get_context("spawn")
    for some in (first, rest):
        with context.Pool(given.workers, initializer=start_worker) as pool:
            jobs = [(given, preset, name, seed) for name, seed in some]
            for _ in pool.imap_unordered(_one, jobs):
                pass


def _one(job: tuple[argparse.Namespace, Preset, str, int]) -> None:
    given, preset, name, seed = job
    pictures = read_pictures(given.archive, given.pixels)
    compute_cell(preset, name, seed, pictures, given.cache, given.device)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main()
