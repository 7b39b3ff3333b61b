"""Scorers that are a distance to what is known to be common: all but where to measure it.

A pool is looked at in single precision first. What may still come to the queue's head is measured
again in double precision, so that the order does not depend on batches and neighbours.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import MinerConfig
from models.errors import ShapeError
from models.scorers.base import State, check_labeled, check_shapes, head_of_queue
from models.scorers.best import Contenders
from models.scorers.needs import Needs, check_needs
from models.streaming import feature_batches, refuse_infinite
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples, RankedQueue

_SINGLE_PRECISION = 1e-2  # by which a distance may be wrong there, with room to spare
_CHUNK = 2048  # references that distances are computed to at a time
_ROWS = 512  # of the pool at a time: fewer make narrow products


@dataclass(frozen=True)
class Space:
    """Where distances are measured, and from what.

    Attributes:
        mean: (D,) taken off the features.
        onto: (D,) factors or (D, D) matrix that the rest is multiplied by.
        references: (R, D) in that space, R >= 1.
    """

    mean: NDArray[np.float32]
    onto: NDArray[np.float32]
    references: NDArray[np.float32]


class NearestScorer(ABC):
    """Farthest from the nearest references first; a scorer fills in ``learn``.

    Attributes:
        neighbours: how many of the nearest references count; their distances are averaged.
        reason: why a task stands in the queue, for a person.
    """

    needs: ClassVar[Needs] = Needs(head_labels=True)
    neighbours: ClassVar[int]
    reason: ClassVar[str]

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._space: Space | None = None

    @abstractmethod
    def learn(self, features: FloatArray, targets: IntArray, rng: np.random.Generator) -> Space:
        """The space, from (N, D) features and (N,) classes of the labels outside of the tail."""

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Learn what is common from the labels outside of the tail."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        rows = np.flatnonzero(~np.isin(labeled.targets, classes.tail))
        self._space = self.learn(
            labeled.examples.take(rows).dense().features,
            labeled.targets[rows],
            np.random.default_rng(seed),
        )
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """By distance, ties by id."""
        size = min(max(budget, 0), len(pool))
        if not size:
            check_shapes(pool)
            return RankedQueue(ids=pool.ids[:0])
        contenders = Contenders(1, size, _SINGLE_PRECISION)
        for start, distances in self._distances(pool, torch.float32):
            rows = np.arange(start, start + len(distances))
            contenders.add(rows, distances.numpy()[:, None])
        left = pool.take(contenders.rows())
        return head_of_queue(self.scores(left), left, size, self.reason)

    def scores(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) mean distance to the nearest references, over the root of D.

        Raises: ShapeError: if features are not finite or of another size.
        """
        scores: NDArray[np.float64] = np.empty(len(examples))
        for start, distances in self._distances(examples, torch.float64):
            scores[start : start + len(distances)] = distances.numpy()
        return scores

    def _distances(self, examples: Examples, dtype: torch.dtype) -> list[tuple[int, Tensor]]:
        """Batches of (B,) distances with their start, computed in that precision."""
        if self._space is None:
            raise RuntimeError("rank was called before fit")
        check_shapes(examples)
        space, width = self._space, len(self._space.mean)
        if examples.features.shape[1] != width:
            raise ShapeError(
                f"found features {examples.features.shape}; the scorer was fitted on (N, {width}) "
                "by another frozen model; fit again"
            )
        mean, onto = torch.from_numpy(space.mean).to(dtype), torch.from_numpy(space.onto).to(dtype)
        references = torch.from_numpy(space.references).to(dtype)
        squares = (references**2).sum(dim=1)
        found = []
        for start, features in feature_batches(examples, _ROWS):
            points = features.to(dtype) - mean
            points = points @ onto if onto.ndim == 2 else points * onto
            distances = self._nearest(points, references, squares)
            if not math.isfinite(float(distances.sum())):
                refuse_infinite(examples.ids[start : start + len(features)], features)
            found.append((start, distances))
        return found

    def _nearest(self, points: Tensor, references: Tensor, squares: Tensor) -> Tensor:
        """(B, D) points to (B,) mean distance to the nearest references, over the root of D."""
        count = min(self.neighbours, len(references))
        own = torch.linalg.vector_norm(points, dim=1, keepdim=True).square_()
        nearest = torch.empty((len(points), 0), dtype=points.dtype)
        for first in range(0, len(references), _CHUNK):
            here = slice(first, first + _CHUNK)
            squared = torch.addmm(squares[here] + own, points, references[here].T, alpha=-2)
            nearest = torch.cat([nearest, squared], dim=1)
            if nearest.shape[1] > count:
                nearest = torch.topk(nearest, count, dim=1, largest=False).values
        nearest = nearest.clamp_min_(0) / points.shape[1]
        if points.dtype == torch.float64:
            # The root would make a distance of what is left of two equal points.
            nearest = nearest.round(decimals=12)
        return nearest.sqrt_().mean(dim=1)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The space."""
        if self._space is None:
            return {}
        return {
            "mean": self._space.mean,
            "onto": self._space.onto,
            "references": self._space.references,
        }

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take it back."""
        self._space = Space(
            *(state[name].astype(np.float32) for name in ("mean", "onto", "references"))
        )
        return self
