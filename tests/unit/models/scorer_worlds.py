"""Small worlds that every scorer of the table is tried in."""

from __future__ import annotations

from functools import cache

import numpy as np

from models.config import MinerConfig
from models.scorers import SCORERS, StoredScorer
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples

CONFIG = MinerConfig(autoencoder_steps=200, members=2)
QUICK = MinerConfig(autoencoder_steps=20, members=1)
CLASSES = ClassSpace(("a", "b", "c", "d"), tail=(2, 3))
NAMES = sorted(SCORERS)


def world(counts: tuple[int, ...], seed: int, first_id: int) -> tuple[Examples, IntArray]:
    """Four clouds in six dimensions, ids in no order."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    features = rng.normal(size=(len(targets), 6))
    features[:, :4] += 3.0 * np.eye(4)[targets]
    ids = rng.permutation(len(targets)) + first_id
    return Examples(ids.astype(np.int64), features.astype(np.float32)), targets


def labels(counts: tuple[int, ...] = (40, 40, 5, 5)) -> LabeledExamples:
    """Labels of the four clouds."""
    return LabeledExamples(*world(counts, 0, 0))


POOL, TRUTH = world((60, 60, 8, 8), 1, 1000)


def with_logits(examples: Examples, size: int = 4) -> Examples:
    """The same, with logits of the frozen model's own head that lean to the right class."""
    return Examples(examples.ids, examples.features, examples.features[:, :size].copy())


def fit(
    name: str,
    labeled: LabeledExamples | None = None,
    pool: Examples = POOL,
    classes: ClassSpace = CLASSES,
    config: MinerConfig = CONFIG,
) -> StoredScorer:
    """A scorer of the table, fitted."""
    return SCORERS[name](config).fit(
        labels() if labeled is None else labeled, pool, classes=classes, seed=0
    )


@cache
def fitted(name: str) -> StoredScorer:
    """The same in the usual world, once for all tests: ``rank`` leaves it as it was."""
    return fit(name)


def order(scorer: StoredScorer, pool: Examples, *, budget: int = 10_000, seed: int = 0) -> IntArray:
    """Ids in queue order."""
    return scorer.rank(pool, budget=budget, seed=seed).ids


def cloud(count: int, size: int, width: int, *, first_id: int = 0) -> tuple[FloatArray, IntArray]:
    """Features and targets of many classes with a few examples each."""
    rng = np.random.default_rng(first_id)
    targets = np.arange(count) % size
    centers = np.random.default_rng(5).normal(size=(size, width))
    features = rng.normal(size=(count, width)) + 2 * centers[targets]
    return features.astype(np.float32), targets.astype(np.int64)
