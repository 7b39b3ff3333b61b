"""K-center greedy: the example farthest from everything labeled or already in the queue.

Used where no class is in the tail yet, or too few labels are there to tell it apart.
Source: Sener and Savarese 2018, arXiv:1708.00489, the greedy 2-approximation of section 4.2.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import MinerConfig
from models.errors import ShapeError
from models.scorers.base import State, check_labeled, check_shapes
from models.scorers.best import best_rows
from models.scorers.needs import Needs, check_needs
from models.streaming import batch_rows, feature_batches, refuse_infinite
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples, RankedQueue

_WIDTH = 64  # dimensions that distances are measured in; more are projected
_CENTERS = 2000  # labeled examples that are kept as centers
_GREEDY = 1000  # picks after which the distances stay as they are
_CHUNK = 4096


class Diversity:
    """Cover the pool, starting from what is labeled, where anything is.

    Needs nothing.
    """

    needs: ClassVar[Needs] = Needs()

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._centers: FloatArray = np.empty((0, 0), dtype=np.float32)

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Remember where the labeled examples lie."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        features = labeled.examples.dense().features
        if len(features) > _CENTERS:
            rows = np.random.default_rng(seed).choice(len(features), _CENTERS, replace=False)
            features = features[np.sort(rows)]
        self._centers = features
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Farthest first; without labels it starts at the example nearest to the middle."""
        check_shapes(pool)
        width = self._centers.shape[1]
        if len(self._centers) and pool.features.shape[1] != width:
            raise ShapeError(
                f"found features {pool.features.shape}; the scorer was fitted on (N, {width}) by "
                "another frozen model; fit again"
            )
        rows = farthest_first(pool, self._centers, budget)
        return RankedQueue(ids=pool.ids[rows], reasons=("diversity",) * len(rows))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The labeled examples' features."""
        return {"centers": self._centers}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take back the centers."""
        # As stored: half precision stays half precision.
        self._centers = np.asarray(state["centers"], dtype=state["centers"].dtype)
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
    if (np.diff(pool.ids) < 0).any():
        # By id: in single precision the last digits, which part copies of an example, depend on
        # where it stands.
        by_id = np.argsort(pool.ids)
        return by_id[farthest_first(pool.take(by_id), centers, budget)]
    points, covered = _comparable(pool, centers)
    squares = _squares(points)
    nearest = torch.full((len(points),), torch.inf)
    for start in range(0, len(points), _CHUNK):
        here = slice(start, start + _CHUNK)
        for first in range(0, len(covered), _CHUNK):
            between = _squared(points[here], squares[here], covered[first : first + _CHUNK])
            torch.minimum(nearest[here], between.min(dim=1).values, out=nearest[here])
    if not len(covered):
        # Nothing is covered: begin in the middle, not at an outlier.
        nearest = -squares
    picked = np.zeros(len(points), dtype=bool)
    order: list[int] = []
    for turn in range(min(size, _GREEDY)):
        distances = nearest.numpy()
        best = np.flatnonzero(distances == distances.max(where=~picked, initial=-np.inf))
        best = best[~picked[best]]
        row = int(best[np.argmin(pool.ids[best])])
        picked[row] = True
        order.append(row)
        distance = _squared(points, squares, points[row : row + 1])[:, 0]
        fresh = turn == 0 and not len(covered)
        nearest = distance if fresh else torch.minimum(nearest, distance)
    if len(order) < size:
        rest = np.flatnonzero(~picked)
        rest = rest[best_rows(nearest.numpy()[rest], pool.ids[rest], size - len(order))]
        order += rest.tolist()
    return np.asarray(order, dtype=np.int64)


def _comparable(pool: Examples, centers: FloatArray) -> tuple[Tensor, Tensor]:
    """Centered on the pool, and projected where there are many dimensions; float32."""
    width = pool.features.shape[1]
    rows = batch_rows(width)
    onto = torch.eye(width)
    if width > _WIDTH:
        # A fixed Gaussian projection keeps distances within some percent (Johnson-Lindenstrauss).
        drawn = np.random.default_rng(0).normal(size=(width, _WIDTH)).astype(np.float32)
        onto = torch.from_numpy(drawn / np.float32(np.sqrt(_WIDTH)))
    sums = torch.zeros(width, dtype=torch.float64)
    for start, batch in feature_batches(pool, rows):
        sums += batch.sum(dim=0)
        if not bool(torch.isfinite(sums).all()):
            refuse_infinite(pool.ids[start : start + len(batch)], batch)
    mean = (sums / len(pool)).float()
    points = torch.empty((len(pool), onto.shape[1]))
    for start, batch in feature_batches(pool, rows):
        batch -= mean
        torch.mm(batch, onto, out=points[start : start + len(batch)])
    covered = torch.empty((0, onto.shape[1]))
    if len(centers):
        covered = (torch.from_numpy(centers.astype(np.float32)) - mean) @ onto
    return points, covered


def _squares(points: Tensor) -> Tensor:
    """(N,) squared lengths of (N, D) points, a chunk at a time: no second array of their size."""
    squares = torch.empty(len(points))
    for start in range(0, len(points), _CHUNK):
        here = slice(start, start + _CHUNK)
        torch.sum(points[here] ** 2, dim=1, out=squares[here])
    return squares


def _squared(points: Tensor, squares: Tensor, to: Tensor) -> Tensor:
    """(N, C) squared distances."""
    out = torch.addmm(squares[:, None], points, to.T, alpha=-2)
    return out.add_((to**2).sum(dim=1)).clamp_min_(0)
