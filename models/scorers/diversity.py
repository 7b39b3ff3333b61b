"""K-center greedy: the example farthest from everything labeled or already in the queue.

Used where no class is in the tail yet, or too few labels are there to tell it apart.
Source: Sener and Savarese 2018, arXiv:1708.00489, the greedy 2-approximation of section 4.2.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.scorers.base import State, check_examples, check_labeled, descending
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples, RankedQueue

_WIDTH = 64  # dimensions that distances are measured in; more are projected
_CENTERS = 2000  # labeled examples that are kept as centers
_GREEDY = 1000  # picks after which the distances stay as they are
_CHUNK = 4096


class Diversity:
    """Cover the pool, starting from what is labeled."""

    learns: ClassVar[bool] = False

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._centers: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Remember where the labeled examples lie."""
        check_labeled(labeled, classes)
        features: FloatArray = labeled.examples.features
        if len(features) > _CENTERS:
            rows = np.random.default_rng(seed).choice(len(features), _CENTERS, replace=False)
            features = features[np.sort(rows)]
        self._centers = features.astype(np.float32)
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Farthest first; without labels it starts at the example nearest to the middle."""
        check_examples(pool)
        rows = farthest_first(pool, self._centers, budget)
        return RankedQueue(ids=pool.ids[rows], reasons=("diversity",) * len(rows))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The labeled examples' features."""
        return {"centers": self._centers.astype(np.float16)}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take back the centers."""
        self._centers = state["centers"].astype(np.float32)
        return self


def farthest_first(pool: Examples, centers: FloatArray, budget: int) -> IntArray:
    """Rows of the pool, each farthest from the centers and from the rows before it.

    Args:
        pool: N examples.
        centers: (C, D) features that count as covered; C may be 0.
        budget: rows wanted; at most N come back.
    """
    size = min(max(budget, 0), len(pool))
    if not size:
        return np.empty(0, dtype=np.int64)
    points, covered = _comparable(pool.features, centers)
    squares = (points**2).sum(axis=1)
    nearest: NDArray[np.float64] = np.full(len(points), np.inf)
    for start in range(0, len(covered), _CHUNK):
        part = covered[start : start + _CHUNK]
        np.minimum(nearest, _squared(points, squares, part).min(axis=1), out=nearest)
    if not len(covered):
        # Nothing is covered: begin in the middle, not at an outlier.
        nearest = -squares.astype(np.float64)
    picked = np.zeros(len(points), dtype=bool)
    order: list[int] = []
    for turn in range(min(size, _GREEDY)):
        open_rows = np.where(picked, -np.inf, nearest)
        best = np.flatnonzero(open_rows == open_rows.max())
        row = int(best[np.argmin(pool.ids[best])])
        picked[row] = True
        order.append(row)
        distance = _squared(points, squares, points[row : row + 1])[:, 0]
        fresh = turn == 0 and not len(covered)
        nearest = distance if fresh else np.minimum(nearest, distance)
    if len(order) < size:
        rest = np.flatnonzero(~picked)
        rest = rest[descending(nearest[rest], pool.ids[rest])]
        order += rest[: size - len(order)].tolist()
    return np.asarray(order, dtype=np.int64)


def _comparable(
    features: FloatArray, centers: FloatArray
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centered on the pool, and projected where there are many dimensions."""
    mean = features.mean(axis=0, dtype=np.float64)
    points: NDArray[np.float32] = (features - mean).astype(np.float32)
    covered: NDArray[np.float32] = np.empty((0, points.shape[1]), dtype=np.float32)
    if len(centers):
        covered = (centers - mean).astype(np.float32)
    if points.shape[1] > _WIDTH:
        # A fixed Gaussian projection keeps distances within some percent (Johnson-Lindenstrauss).
        onto = np.random.default_rng(0).normal(size=(points.shape[1], _WIDTH)).astype(np.float32)
        onto /= np.float32(np.sqrt(_WIDTH))
        points, covered = points @ onto, covered @ onto
    return points, covered


def _squared(
    points: NDArray[np.float32], squares: NDArray[np.float32], to: NDArray[np.float32]
) -> NDArray[np.float64]:
    """(N, C) squared distances."""
    out = squares[:, None] - 2 * (points @ to.T) + (to**2).sum(axis=1)[None]
    squared: NDArray[np.float64] = np.maximum(out, 0).astype(np.float64)
    return squared
