"""Play the labeling game on data whose labels are known: how many rare ones are found, how soon.

Each round fits the miner on what is labeled, serves the head of its queue, and reveals those
labels. The frozen model stays as it is; only cached features are used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.config import MinerConfig
from models.errors import ShapeError
from models.recipes.fit_miner import fit_miner
from models.types import (
    ClassSpace,
    Examples,
    IntArray,
    LabeledExamples,
    Progress,
    no_progress,
)


@dataclass(frozen=True)
class Simulation:
    """What the rounds found.

    Attributes:
        served: (rounds * batch,) row of the examples in the order in which they were labeled.
        found: rare examples found after each round.
        found_by_class: class index -> found in all rounds.
        rare: rare examples that the pool held.
        by_chance: rare examples that a random order is expected to find in all rounds.
    """

    served: IntArray
    found: tuple[int, ...]
    found_by_class: dict[int, int]
    rare: int
    by_chance: float


def simulate(
    examples: Examples,
    targets: IntArray,
    *,
    labeled: IntArray,
    classes: ClassSpace,
    rounds: int,
    batch: int = 10,
    config: MinerConfig | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Simulation:
    """Label in queue order for some rounds.

    Args:
        examples: N examples, labeled and pool together.
        targets: (N,) true class indices; those of the pool are shown only when served.
        labeled: rows that are labeled at the start; all others are the pool.
        classes: names and tail; where it has no priors, the first labels' shares are taken.
        rounds: how many times the miner is fitted.
        batch: labels in a round.
        config: the miner's settings.
        seed: of everything random.
        progress: told after each round.

    Raises: ShapeError: if there is not one target for each example.
    """
    if targets.shape != examples.ids.shape:
        raise ShapeError(f"found {targets.shape} targets for {len(examples)} examples")
    if classes.class_priors is None:
        counts = np.bincount(targets[labeled], minlength=classes.size) + 1.0
        classes = ClassSpace(classes.names, classes.tail, tuple((counts / counts.sum()).tolist()))
    row_of = {int(task): row for row, task in enumerate(examples.ids)}
    is_open = np.ones(len(examples), dtype=bool)
    is_open[labeled] = False
    is_rare = np.isin(targets, classes.tail)
    rare, pool_size = int((is_rare & is_open).sum()), int(is_open.sum())
    known = np.asarray(labeled, dtype=np.int64)
    served: list[int] = []
    found: list[int] = []
    for turn in range(rounds):
        pool = examples.take(np.flatnonzero(is_open))
        miner = fit_miner(
            LabeledExamples(examples.take(known), targets[known]),
            pool,
            classes=classes,
            config=config or MinerConfig(),
            seed=seed,
        )
        queue = miner.queue(pool, budget=batch, seed=seed + turn)
        rows = np.asarray([row_of[int(task)] for task in queue.ids], dtype=np.int64)
        is_open[rows] = False
        known = np.concatenate([known, rows])
        served += rows.tolist()
        found.append(int(is_rare[served].sum()))
        progress(turn + 1, rounds, f"{found[-1]} of {rare} rare found")
    order = np.asarray(served, dtype=np.int64)
    return Simulation(
        served=order,
        found=tuple(found),
        found_by_class={k: int((targets[order] == k).sum()) for k in classes.tail},
        rare=rare,
        by_chance=rare * len(order) / max(pool_size, 1),
    )
