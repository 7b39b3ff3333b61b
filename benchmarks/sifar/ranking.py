"""The task `rank`: fit a scorer once, order both pools."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from benchmarks.sifar.cells import Cell, Result
from benchmarks.sifar.draws import Draw
from benchmarks.sifar.entries import ENTRIES
from benchmarks.sifar.pictures import CLASSES
from benchmarks.sifar.split import PoolKind
from benchmarks.sifar.watched import Watched
from models.errors import ModelError
from models.metrics import (
    found_at,
    mining_metrics,
    precision_at,
    published_budgets,
    recall_by_class,
)
from models.scorers import SCORERS
from models.types import IntArray

PRECISION_AT = (50, 100, 500, 2000)
FOUND_AT = (500, 1000, 1500, 2000)
RECALL_AT = (500, 2000)
#: Queue lengths at which the curves are kept: evenly on a logarithmic scale.
CURVE_AT = np.unique(np.geomspace(1, 24_000, 90).round().astype(np.int64))


def rank_cell(cell: Cell, draw: Draw) -> Result:
    """Figures of both pools' queues, and seconds of processor time (one thread)."""
    entry = ENTRIES[cell.entry]
    figures: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    fitted, reads_pool = None, True
    for kind, pool in draw.pools.items():
        if reads_pool or fitted is None:
            watched = Watched(pool)
            began = time.process_time()
            try:
                fitted = SCORERS[entry.config.scorer](entry.config).fit(
                    draw.labeled, watched, classes=draw.classes, seed=cell.ranker
                )
            except ModelError as error:
                return Result(refused=str(error))
            figures["seconds.fit"] = time.process_time() - began
            reads_pool = watched.looked
        began = time.process_time()
        budget = min(entry.head or len(pool), len(pool))
        queue = fitted.rank(pool, budget=budget, seed=cell.ranker)
        figures[f"{kind}.seconds.rank"] = time.process_time() - began
        if len(np.unique(queue.ids)) != budget:
            raise AssertionError(f"{cell.name}: {len(queue.ids)} places; expected {budget}")
        order = draw.targets[queue.ids]
        counts = np.bincount(draw.targets[pool.ids], minlength=len(CLASSES)).tolist()
        figures |= of_queue(order, counts, draw.tail, kind)
        hits = np.isin(order, draw.tail)
        within = CURVE_AT[len(order) >= CURVE_AT]
        curves[f"{kind}.found"] = np.cumsum(hits)[within - 1].tolist()
    return Result(figures=figures, curves=curves)


def of_queue(
    order: IntArray, in_pool: Sequence[int], tail: tuple[int, int], kind: PoolKind
) -> dict[str, float]:
    """All figures of a queue; AP only of a whole one, AUC and F of one that reaches their budgets.

    Args:
        order: (B,) class of the n-th task.
        in_pool: (K,) how many of each class the pool holds.
        tail: the tail classes, the rarer first: ``rarer`` and ``rare`` in the figures' names.
        kind: the pool, which begins the figures' names.
    """
    hits = np.isin(order, tail)
    figures: dict[str, float] = {}
    budgets = published_budgets(sum(in_pool))
    if len(order) >= budgets[-1]:
        metrics = mining_metrics(hits, sum(in_pool[k] for k in tail), budgets=budgets)
        figures["auc"], figures["average_f"] = metrics.auc, metrics.average_f
        if len(order) == sum(in_pool):
            figures["ap"] = metrics.average_precision
    figures |= {f"p@{n}": precision_at(hits, n) for n in PRECISION_AT}
    figures |= {f"found@{n}": float(found_at(hits, n)) for n in FOUND_AT}
    for n in RECALL_AT:
        recall = recall_by_class(order, in_pool, tail, n)
        figures |= {f"recall@{n}.rarer": recall[tail[0]], f"recall@{n}.rare": recall[tail[1]]}
    return {f"{kind}.{name}": value for name, value in figures.items()}
