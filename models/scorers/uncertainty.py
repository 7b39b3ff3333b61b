"""Scorers that are a function of the original head's softmax."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.errors import NoTailClass
from models.scorers.base import OriginalHead, State, check_labeled, head_of_queue
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue


class SoftmaxScorer(ABC):
    """Fit the original head, score its softmax; a scorer fills in ``score``."""

    learns: ClassVar[bool] = True
    reason: ClassVar[str]

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._head: OriginalHead | None = None
        self._classes = ClassSpace(())

    @abstractmethod
    def score(self, probabilities: NDArray[np.float64], classes: ClassSpace) -> NDArray[np.float64]:
        """(N, K) softmax to (N,) scores, high = label sooner."""

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Take the model's own head, or fit a plain one in its place."""
        check_labeled(labeled, classes, learns=True)
        self._head = OriginalHead.fit(labeled, num_classes=classes.size)
        self._classes = classes
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """By score, ties by id."""
        if self._head is None:
            raise RuntimeError("rank was called before fit")
        scores: NDArray[np.float64] = np.empty(len(pool))
        for start, probabilities in self._head.batches(pool):
            part = probabilities.T.double().numpy()
            scores[start : start + len(part)] = self.score(part, self._classes)
        return head_of_queue(scores, pool, budget, self.reason)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The plain head, if one was fitted."""
        return {} if self._head is None else self._head.state()

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take back the head."""
        self._head = OriginalHead.from_state(state, num_classes=classes.size)
        self._classes = classes
        return self


class MaxScore(SoftmaxScorer):
    """1 - max_k p_k: least confident first."""

    reason = "unsure"

    def score(self, probabilities: NDArray[np.float64], classes: ClassSpace) -> NDArray[np.float64]:
        """In [0, 1 - 1/K]."""
        least: NDArray[np.float64] = 1 - probabilities.max(axis=1)
        return least


class Entropy(SoftmaxScorer):
    """-sum p_k ln p_k: least decided first."""

    reason = "undecided"

    def score(self, probabilities: NDArray[np.float64], classes: ClassSpace) -> NDArray[np.float64]:
        """In [0, ln K]; 0 ln 0 is 0."""
        logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
        entropy: NDArray[np.float64] = -(probabilities * logs).sum(axis=1)
        return entropy


class TailMass(SoftmaxScorer):
    """The tail's share of the softmax: the free baseline that uses the tail list."""

    reason = "tail mass"

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """As the others; without a tail there is nothing to sum."""
        if not classes.tail:
            raise NoTailClass("no class is in the tail; name one, or label until one is rare")
        return super().fit(labeled, pool, classes=classes, seed=seed)

    def score(self, probabilities: NDArray[np.float64], classes: ClassSpace) -> NDArray[np.float64]:
        """In [0, 1]."""
        mass: NDArray[np.float64] = probabilities[:, list(classes.tail)].sum(axis=1)
        return mass
