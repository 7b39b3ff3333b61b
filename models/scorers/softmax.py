"""Scorers that are a function of the original head's softmax: all but the formula."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.scorers.base import OriginalHead, State, check_labeled, head_of_queue
from models.scorers.needs import Needs, check_needs
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue

Logs = NDArray[np.float64]

_SEEN = "seen"


class SoftmaxScorer(ABC):
    """Take or fit the original head, score its softmax; a scorer fills in ``score``.

    Attributes:
        reason: why a task stands in the queue, for a person.
        classes: the classes it was fitted for.
        seen: (K,) labels of each class.
    """

    needs: ClassVar[Needs] = Needs(original_head=True)
    reason: ClassVar[str]

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self.classes = ClassSpace(())
        self.seen: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._head: OriginalHead | None = None

    @abstractmethod
    def score(self, logs: Logs) -> NDArray[np.float64]:
        """(N, K) natural logarithms of the softmax to (N,) scores, high = label sooner."""

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Take the model's own head, or fit a plain one in its place."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        self._head = self.head_of(labeled, classes, seed)
        self.classes = classes
        self.seen = np.bincount(labeled.targets, minlength=classes.size)
        return self

    def head_of(self, labeled: LabeledExamples, classes: ClassSpace, seed: int) -> OriginalHead:
        """Whose softmax is scored: the original head's."""
        return OriginalHead.fit(labeled, num_classes=classes.size)

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """By score, ties by id."""
        return head_of_queue(self.scores(pool), pool, budget, self.reason)

    def scores(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) the scores.

        Raises: ShapeError: if the examples lack the logits that the head was fitted to expect, or
            features are not finite or of another size.
        """
        if self._head is None:
            raise RuntimeError("rank was called before fit")
        scores: NDArray[np.float64] = np.empty(len(examples))
        for start, logs in self._head.log_batches(examples):
            scores[start : start + logs.shape[1]] = self.score(logs.T.numpy())
        return scores

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The counts of the labels, and the plain head, if one was fitted."""
        return {} if self._head is None else {**self._head.state(), _SEEN: self.seen}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take back the head."""
        self._head = OriginalHead.from_state(state, num_classes=classes.size)
        self.classes = classes
        # Versions of before the counts were kept belong to scorers that do not read them.
        none = np.zeros(classes.size, dtype=np.int64)
        self.seen = state.get(_SEEN, none).astype(np.int64)
        return self


def entropy_of(logs: Logs) -> NDArray[np.float64]:
    """(N, K) logarithms of shares to (N,) -sum p ln p; 0 ln 0 is 0."""
    finite = np.maximum(logs, np.finfo(np.float64).min)
    entropy: NDArray[np.float64] = -(np.exp(logs) * finite).sum(axis=1)
    return entropy
