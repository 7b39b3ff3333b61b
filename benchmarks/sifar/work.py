"""Compute cells in worker processes, one thread each; every finished cell is kept at once."""

from __future__ import annotations

import multiprocessing
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sifar.cells import Cell, CellStore, Result
from benchmarks.sifar.draws import Draw, draw_of
from benchmarks.sifar.likelihood import likelihood_cell
from benchmarks.sifar.processes import single_thread_variables, start_worker
from benchmarks.sifar.ranking import rank_cell
from benchmarks.sifar.rounds import rounds_cell
from benchmarks.stage import say

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

TASKS: Mapping[str, Callable[[Cell, Draw], Result]] = {
    "rank": rank_cell,
    "rounds": rounds_cell,
    "likelihood": likelihood_cell,
}


class CellsFailed(Exception):  # noqa: N818 - names what happened
    """Some cells could not be computed: their names and why."""


@dataclass(frozen=True)
class Job:
    """Cells of one draw, which share what is loaded.

    Attributes:
        cells: to compute, in order.
        costs: expected seconds of each.
    """

    cells: tuple[Cell, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Run:
    """What every worker knows.

    Attributes:
        cache: with the frozen models' features; results go to ``cells`` in it.
        commit: of the code.
        total_s: expected seconds of all cells to compute.
        began: time at which the run began.
        done_s: expected seconds of what is computed by now.
    """

    cache: Path
    commit: str
    total_s: float
    began: float
    done_s: Synchronized[float]


def compute(cells: Sequence[Cell], costs: Mapping[Cell, float], cache: Path, workers: int) -> None:
    """Compute the cells, all of which are missing.

    Args:
        cells: those of a draw follow each other.
        costs: expected seconds of each.
        cache: with the frozen models' features; results go to ``cells`` in it.
        workers: processes; 0: here.

    Raises: CellsFailed: at the end, if any failed; all others are computed and kept.
    """
    jobs = [
        Job(tuple(group), tuple(costs[cell] for cell in group))
        for group in (list(g) for _, g in groupby(cells, key=_draw_key))
    ]
    # Long ones first: the end is not spent waiting for one worker.
    jobs.sort(key=lambda job: -sum(job.costs))
    context = multiprocessing.get_context("spawn")
    run = Run(
        cache=cache,
        commit=current_commit(),
        total_s=sum(costs[cell] for cell in cells),
        began=time.time(),
        done_s=context.Value("d", 0.0),
    )
    failed: list[str] = []
    if not workers:
        _know(run)
        for job in jobs:
            failed += _do(job)
    else:
        single_thread_variables()
        with context.Pool(workers, initializer=_start, initargs=(run,)) as pool:
            for some in pool.imap_unordered(_do, jobs):
                failed += some
    if failed:
        raise CellsFailed("\n".join(failed))


def current_commit() -> str:
    """Short name of the commit, with a mark where files differ from it; empty outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def compute_cell(cell: Cell, cache: Path, commit: str) -> Result:
    """One cell, here."""
    draw = draw_of(cell, cache)
    began = time.process_time()
    result = TASKS[cell.task](cell, draw)
    return replace(result, cpu_s=round(time.process_time() - began, 3), commit=commit)


def _draw_key(cell: Cell) -> tuple[object, ...]:
    return cell.frozen, cell.tail, cell.draw, cell.labels


_run: Run


def _know(run: Run) -> None:
    global _run
    _run = run


def _start(run: Run) -> None:
    _know(run)
    start_worker()


def _do(job: Job) -> list[str]:
    """Compute the cells of a job; names and reasons of those that failed."""
    store, failed = CellStore(_run.cache / "cells"), list[str]()
    for cell, cost in zip(job.cells, job.costs, strict=True):
        began = time.time()
        try:
            result = compute_cell(cell, _run.cache, _run.commit)
        except Exception as error:
            # An hour of other cells is not lost to one.
            failed.append(f"{cell.name}: {type(error).__name__}: {error}")
            say(f"{cell.name} FAILED\n{traceback.format_exc()}")
            continue
        store.put(cell, result)
        with _run.done_s.get_lock():
            _run.done_s.value += cost
            done = _run.done_s.value
        say(f"{cell.name}: {time.time() - began:.0f} s{_words(result)}; {_left(done)}")
    return failed


def _left(done_s: float) -> str:
    """How far the run is, and how long the rest takes at the pace so far."""
    share = done_s / max(_run.total_s, 1e-9)
    left = (time.time() - _run.began) * (1 - share) / max(share, 1e-9)
    return f"{share:.1%} of the run, about {left / 60:.0f} minutes left"


def _words(result: Result) -> str:
    if result.refused:
        return " (refused)"
    for name in ("uniform.ap", "found.round5", "natural.true_priors.ece"):
        if name in result.figures:
            return f" ({name} {result.figures[name]:.3g})"
    return ""
