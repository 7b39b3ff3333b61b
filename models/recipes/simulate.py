"""Play the labeling game on data whose labels are known: how many rare ones are found, how soon.

Each round fits the miner on what is labeled, serves the head of its queue, and reveals those
labels; a scorer that asks as it goes is told each label before it chooses the next. The frozen
model stays as it is; only cached features are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.config import MinerConfig
from models.errors import ConfigError, ShapeError
from models.label_head import LabelHead
from models.recipes.fit_miner import Miner, fit_miner
from models.types import (
    AsksAsItGoes,
    ClassSpace,
    Examples,
    IntArray,
    LabeledExamples,
    Progress,
    RankedQueue,
    no_progress,
)


@dataclass(frozen=True)
class Simulation:
    """What the rounds found.

    Attributes:
        served: (B,) row of the examples in the order in which they were labeled; B is
            rounds * batch, less where the pool ran out.
        labels: labels given after each round; no round follows the one that empties the pool.
        found: rare examples found after each round.
        found_by_class: class index -> found in all rounds.
        rare: rare examples that the pool held.
        by_chance: rare examples that a random order is expected to find in all rounds.
        explanations: why the order was not the one asked for, each sentence once.
    """

    served: IntArray
    labels: tuple[int, ...]
    found: tuple[int, ...]
    found_by_class: dict[int, int]
    rare: int
    by_chance: float
    explanations: tuple[str, ...] = ()


def simulate(
    examples: Examples,
    targets: IntArray,
    *,
    labeled: IntArray,
    classes: ClassSpace,
    rounds: int,
    batch: int = 10,
    config: MinerConfig | None = None,
    head: LabelHead | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Simulation:
    """Label in queue order for some rounds.

    Args:
        examples: N examples, labeled and pool together.
        targets: (N,) true class indices; those of the pool are shown only when served.
        labeled: rows that are labeled at the start; all others are the pool.
        classes: names and tail; where it has no priors, the first labels' shares are taken.
        rounds: how many times the miner is fitted, at most.
        batch: labels in a round.
        config: the miner's settings.
        head: the frozen model's own head, as ``LabeledExamples`` has it.
        seed: of everything random.
        progress: told after each round.

    Raises:
        ShapeError: if there is not one target for each example.
        ConfigError: if a round would have no label.
    """
    if targets.shape != examples.ids.shape:
        raise ShapeError(f"found {targets.shape} targets for {len(examples)} examples")
    if batch < 1 or rounds < 1:
        raise ConfigError(f"found {rounds} rounds of {batch} labels; expected 1 or more of each")
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
    labels: list[int] = []
    found: list[int] = []
    explanations: dict[str, None] = {}
    for turn in range(rounds):
        if not is_open.any():
            break
        pool = examples.take(np.flatnonzero(is_open))
        miner = fit_miner(
            LabeledExamples(examples.take(known), targets[known], head),
            pool,
            classes=classes,
            config=config or MinerConfig(),
            seed=seed,
            judges=False,
        )
        if miner.explanation:
            explanations[miner.explanation] = None

        def answer(ids: IntArray) -> IntArray:
            return targets[[row_of[int(task)] for task in ids]]

        queue = _choose(miner, pool, answer, budget=batch, seed=seed + turn)
        rows = np.asarray([row_of[int(task)] for task in queue.ids], dtype=np.int64)
        is_open[rows] = False
        known = np.concatenate([known, rows])
        served += rows.tolist()
        labels.append(len(served))
        found.append(int(is_rare[served].sum()))
        progress(turn + 1, rounds, f"{found[-1]} of {rare} rare found")
    order = np.asarray(served, dtype=np.int64)
    return Simulation(
        served=order,
        labels=tuple(labels),
        found=tuple(found),
        found_by_class={k: int((targets[order] == k).sum()) for k in classes.tail},
        rare=rare,
        by_chance=rare * len(order) / max(pool_size, 1),
        explanations=tuple(explanations),
    )


def stratified_start(targets: IntArray, count: int, *, num_classes: int, seed: int) -> IntArray:
    """Rows of the labels that are there at the start: each class by its share.

    Where ``count`` suffices each class with two examples or more gives one at least, as a person
    who starts a project would. An only example stays in the pool: it is there to be found.

    Args:
        targets: (N,) class indices in [0, K).
        count: how many rows.
        num_classes: K.
        seed: of the draw.
    Returns: (count,) ascending rows.    Raises: ConfigError: if there are fewer to draw from.
    """
    sizes = np.bincount(targets, minlength=num_classes)
    most = np.where(sizes > 1, sizes, 0)
    if not 0 <= count <= most.sum():
        raise ConfigError(
            f"found {count} labels at the start for {len(targets)} examples; expected 0 to "
            f"{most.sum()} (an only example of its class is not drawn)"
        )
    take = np.zeros(num_classes, dtype=np.int64)
    if count >= np.count_nonzero(most):
        take[most > 0] = 1
    # One label at a time to the class that lacks most of its share.
    wanted = sizes * (count / max(len(targets), 1))
    while take.sum() < count:
        take[int(np.where(take < most, wanted - take, -np.inf).argmax())] += 1
    rng = np.random.default_rng(seed)
    rows = [
        rng.choice(np.flatnonzero(targets == k), size=take[k], replace=False)
        for k in np.flatnonzero(take)
    ]
    drawn: IntArray = np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)
    return drawn


def _choose(
    miner: Miner,
    pool: Examples,
    answer: Callable[[IntArray], IntArray],
    *,
    budget: int,
    seed: int,
) -> RankedQueue:
    """A batch of the pool; label by label where the scorer looks at them in between."""
    if isinstance(miner.scorer, AsksAsItGoes):
        return miner.scorer.ask(pool, answer, budget=budget, seed=seed)
    return miner.queue(pool, budget=budget, seed=seed)
