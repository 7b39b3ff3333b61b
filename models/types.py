"""The shapes that the machine learning passes around: arrays with ids, and what is said of them.

Axes: N examples, D feature size, K classes of the label config, T tail classes. High score = rare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.label_head import LabelHead

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ClassSpace:
    """The classes of a label config, in its order, and which of them are the tail.

    Attributes:
        names: the K class names.
        tail: indices into ``names`` of the tail classes, ascending; may be empty.
        class_priors: (K,) share of each class among labels that were not chosen by our queue,
            smoothed, summing to 1; None where there are no such labels.
    """

    names: tuple[str, ...]
    tail: tuple[int, ...] = ()
    class_priors: tuple[float, ...] | None = None

    @property
    def size(self) -> int:
        """K."""
        return len(self.names)


@dataclass(frozen=True)
class Examples:
    """Examples as the frozen model sees them: all rows of the cached features, or a view of some.

    Attributes:
        ids: (N,) int64, unique; the task ids.
        features: (R, D) float16 or float32 penultimate features.
        logits: (R, K) float32 original logits over the label config's classes, or None where the
            frozen model has no head over them.
        at: (N,) rows of ``features`` and ``logits`` that are the examples', in order; None where
            they are all (R = N). Nothing is copied until ``dense`` or a batch is asked for.
    """

    ids: IntArray
    features: FloatArray
    logits: FloatArray | None = None
    at: IntArray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: IntArray) -> Examples:
        """A view of the examples at ``rows``, in that order."""
        at = np.asarray(rows, dtype=np.int64)
        return Examples(
            self.ids[at], self.features, self.logits, at if self.at is None else self.at[at]
        )

    def slice(self, start: int, stop: int) -> Examples:
        """A view of the examples from ``start`` to before ``stop``."""
        if self.at is not None:
            return Examples(self.ids[start:stop], self.features, self.logits, self.at[start:stop])
        return Examples(
            self.ids[start:stop],
            self.features[start:stop],
            None if self.logits is None else self.logits[start:stop],
        )

    def dense(self) -> Examples:
        """The same examples with arrays of their own size; copies where this is a view."""
        if self.at is None:
            return self
        return Examples(
            self.ids,
            self.features[self.at],
            None if self.logits is None else self.logits[self.at],
        )


def numbered(features: FloatArray) -> Examples:
    """Features as examples whose ids are their rows."""
    return Examples(np.arange(len(features), dtype=np.int64), features)


@dataclass(frozen=True)
class LabeledExamples:
    """Examples and their class indices.

    Attributes:
        examples: N examples.
        targets: (N,) int64 in [0, K).
        head: the frozen model's own head over the K classes, where the examples do not carry its
            logits; None where it has none.
    """

    examples: Examples
    targets: IntArray
    head: LabelHead | None = None

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class Judgement:
    """What a fitted miner says of N examples, row by row.

    Attributes:
        ids: (N,) int64.
        rarity: (N,) float in [0, 1]: likelihood that the example is of a tail class.
        predicted: (N,) int64 class index from the original head (or the plain head fitted in its
            place).
        confidence: (N,) float in [0, 1]: that class's probability.
        boxes: (N, J, 6) float32: x0, y0, x1, y1 as shares of the picture, class index and
            confidence of each detection, rows with confidence 0 being none; then ``predicted`` and
            ``confidence`` are those of the surest. None where no boxes are asked for.
    """

    ids: IntArray
    rarity: FloatArray
    predicted: IntArray
    confidence: FloatArray
    boxes: FloatArray | None = None


@dataclass(frozen=True)
class RankedQueue:
    """The head of the labeling queue.

    Attributes:
        ids: (B,) int64 in the order in which they should be labeled.
        reasons: B short texts: why each stands there, such as ``tail 7``, ``diversity``,
            ``control``.
    """

    ids: IntArray
    reasons: tuple[str, ...] = field(default=())


class Scorer(Protocol):
    """One way to order a pool. Sequential and transductive methods fit this contract too."""

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Learn from the labels (and, if it likes, from the unlabeled pool)."""

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """The first ``min(budget, N)`` of the pool, each id once, rarest first."""


@runtime_checkable
class AsksAsItGoes(Protocol):
    """A fitted scorer that can choose the next example by the labels of those before it.

    ``rank`` of such a scorer is what it would ask for with no answer in between.
    """

    def ask(
        self, pool: Examples, oracle: Callable[[IntArray], IntArray], *, budget: int, seed: int
    ) -> RankedQueue:
        """The first ``min(budget, N)`` of the pool, each id once, as they were asked for.

        Nothing is fitted again in between. The scorer itself is left as it was.

        Args:
            pool: unlabeled examples.
            oracle: (B,) ids of the pool, none of them twice, to (B,) targets in [0, K).
            budget: how many to ask for.
            seed: of everything random.
        """


class Progress(Protocol):
    """Told how far a long piece of work is."""

    def __call__(self, done: int, total: int, message: str = "") -> None:
        """``done`` of ``total`` steps are finished."""


def no_progress(done: int, total: int, message: str = "") -> None:
    """Nobody is watching."""
