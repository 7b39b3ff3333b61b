"""Class lines: all examples, labeled and not, sorted from surely class k to surely not.

GALAXY and DIRECT turn K classes into K such lines and look on each for the place where the class
ends. Here is what both share: the lines, and the labels that stay with a fitted scorer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.errors import ShapeError
from models.scorers.base import OriginalHead, State, check_labeled, part_of
from models.scorers.needs import Needs, check_needs
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples, RankedQueue

Signs = NDArray[np.int8]  # along a line: +1 of the class, -1 of another, 0 unlabeled

_OWN_PREDICTIONS = 1e-8  # how far the winner's own confidence counts: below all differences
_ROWS = 8192
_UNKNOWN = -1


class ClassLineScorer(ABC):
    """Fit the original head, and remember what it says of the labeled; a scorer does the rest.

    Attributes:
        needs: labels of two classes, and probabilities.
    """

    needs: ClassVar[Needs] = Needs(classes=2, original_head=True)

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._head: OriginalHead | None = None
        self._classes = ClassSpace(())
        self._known = _Known(
            np.empty(0, dtype=np.int64),
            np.empty((0, 0), dtype=np.float32),
            np.empty(0, dtype=np.int64),
        )

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Take the model's own head, or fit a plain one in its place."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        self._classes = classes
        self._head = OriginalHead.fit(labeled, num_classes=classes.size)
        self._known = _Known(
            labeled.examples.ids,
            logs_of(self._head, labeled.examples),
            labeled.targets.astype(np.int64),
        )
        return self

    @abstractmethod
    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """What would be asked for with no answer in between."""

    @abstractmethod
    def ask(
        self, pool: Examples, oracle: Callable[[IntArray], IntArray], *, budget: int, seed: int
    ) -> RankedQueue:
        """What is asked for where answers come in between; see ``AsksAsItGoes``."""

    def lines(self, pool: Examples) -> ClassLines:
        """The class lines over the labeled examples and a pool.

        An example of the pool whose id was labeled at the fit counts as unlabeled.
        """
        if self._head is None:
            raise RuntimeError("the scorer was asked before fit")
        known = self._known
        here = np.flatnonzero(~np.isin(known.ids, pool.ids))
        return ClassLines(
            np.concatenate([known.ids[here], pool.ids]),
            np.concatenate([known.logs[here], logs_of(self._head, pool)]),
            np.concatenate([known.targets[here], np.full(len(pool), _UNKNOWN, dtype=np.int64)]),
            of=self._wanted(),
        )

    def _wanted(self) -> tuple[int, ...]:
        """Classes whose lines are searched. Two classes have one line, seen from both ends."""
        if self._classes.size == 2:
            return (1,)
        if self.config.class_lines == "tail" and self._classes.tail:
            return self._classes.tail
        return tuple(range(self._classes.size))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The plain head, if one was fitted, and ids, logs and targets of the labeled."""
        if self._head is None:
            return {}
        return {
            **self._head.state(),
            "known.ids": self._known.ids,
            "known.logs": self._known.logs,
            "known.targets": self._known.targets.astype(np.int32),
        }

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take both back."""
        known = part_of(state, "known.")
        self._head = OriginalHead.from_state(state, num_classes=classes.size)
        self._classes = classes
        self._known = _Known(
            known["ids"].astype(np.int64),
            known["logs"].astype(np.float32),
            known["targets"].astype(np.int64),
        )
        return self


@dataclass(frozen=True)
class _Known:
    """Labeled examples: (L,) ids, (L, K) logarithms of their softmax, (L,) targets."""

    ids: IntArray
    logs: NDArray[np.float32]
    targets: IntArray


class ClassLines:
    """Lines of some classes over N examples; a line is made when it is first asked for.

    Args:
        ids: (N,) unique.
        logs: (N, K) float32 logarithms of the softmax.
        targets: (N,) in [0, K), -1 where unlabeled; kept, and changed by ``tell``.
        of: the classes that have a line.

    Attributes:
        ids, targets, of: the same.
    """

    def __init__(
        self, ids: IntArray, logs: NDArray[np.float32], targets: IntArray, *, of: tuple[int, ...]
    ) -> None:
        self.ids = ids
        self.targets = targets
        self.of = of
        self._logs = logs
        self._highest = logs.max(axis=1).astype(np.float64) if len(logs) else np.empty(0)
        self._rest = _rest(logs)
        self._orders: dict[int, IntArray] = {}
        self._places: dict[int, IntArray] = {}

    def order(self, number: int) -> IntArray:
        """(N,) rows along the line of class ``of[number]``, surely of that class first."""
        if number not in self._orders:
            log_p = self._logs[:, self.of[number]] - self._highest - self._rest
            self._orders[number] = line_order(log_p, np.exp(-self._rest), self.ids)
        return self._orders[number]

    def places(self, number: int) -> IntArray:
        """(N,) where on the line each row stands."""
        if number not in self._places:
            order = self.order(number)
            places = np.empty_like(order)
            places[order] = np.arange(len(order))
            self._places[number] = places
        return self._places[number]

    def signs(self, number: int) -> Signs:
        """(N,) along the line: +1 of the class, -1 of another one, 0 unlabeled."""
        targets = self.targets[self.order(number)]
        signs = np.where(targets == self.of[number], 1, -1).astype(np.int8)
        signs[targets == _UNKNOWN] = 0
        return signs

    def labels(self) -> IntArray:
        """(L,) how many labels each line's class has."""
        known = self.targets[self.targets != _UNKNOWN]
        counts: IntArray = np.bincount(known, minlength=self._logs.shape[1])[list(self.of)]
        return counts

    def tell(self, rows: IntArray, targets: IntArray) -> IntArray:
        """Take labels of some rows, and give them back.

        Raises: ShapeError: if they are not one class index for each.
        """
        answers = np.asarray(targets, dtype=np.int64)
        classes = self._logs.shape[1]
        if answers.shape != rows.shape or ((answers < 0) | (answers >= classes)).any():
            raise ShapeError(
                f"found answers {answers[:5].tolist()} of shape {answers.shape}; expected "
                f"{rows.shape} class indices in [0, {classes})"
            )
        self.targets[rows] = answers
        return answers


def logs_of(head: OriginalHead, examples: Examples) -> NDArray[np.float32]:
    """(N, K) logarithms of the head's softmax: not the softmax itself, which saturates.

    Seven digits are kept of the logarithms, the same before and after storing. All that follows
    from them is in double precision.

    Raises: ShapeError: if logits or features are not finite, or not what the head expects.
    """
    logs: NDArray[np.float32] = np.empty((len(examples), head.num_classes), dtype=np.float32)
    for start, some in head.log_batches(examples):
        logs[start : start + some.shape[1]] = some.T.numpy()
    return logs


def line_margins(
    log_p: NDArray[np.float64], highest: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a class line is sorted by, both from high to low: margins, and log p where they tie.

    Args:
        log_p: (N,) logarithm of the class's probability.
        highest: (N,) probability of the predicted class.
    """
    return np.exp(log_p) - highest + _OWN_PREDICTIONS * highest, log_p


def line_order(log_p: NDArray[np.float64], highest: NDArray[np.float64], ids: IntArray) -> IntArray:
    """(N,) rows along a class line: by margin, then log p, then id."""
    margins, ties = line_margins(log_p, highest)
    order: IntArray = np.lexsort((ids, -ties, -margins))
    return order


def _rest(logs: FloatArray) -> NDArray[np.float64]:
    """(N,) -log p of the predicted class; right also where p is 1 but for 1e-30."""
    rest: NDArray[np.float64] = np.empty(len(logs))
    for start in range(0, len(logs), _ROWS):
        some = logs[start : start + _ROWS].astype(np.float64)
        best = some.argmax(axis=1)[:, None]
        shares = np.exp(some - np.take_along_axis(some, best, axis=1))
        np.put_along_axis(shares, best, 0.0, axis=1)
        rest[start : start + _ROWS] = np.log1p(shares.sum(axis=1))
    return rest
