"""The best few of many scores, without sorting them all."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from models.types import FloatArray, IntArray


def best_rows(scores: FloatArray, ids: IntArray, count: int) -> IntArray:
    """Rows of the ``count`` highest scores from high to low, ties by id.

    Exactly the head of a full sort: ties at the last place are won by the smaller ids.

    Args:
        scores: (N,) without NaN.
        ids: (N,) unique.
        count: rows wanted; at most N come back.
    """
    size = min(max(count, 0), len(scores))
    rows: IntArray = np.arange(len(scores), dtype=np.int64)
    if size < len(scores):
        if not size:
            return rows[:0]
        last = np.partition(scores, len(scores) - size)[len(scores) - size]
        above = np.flatnonzero(scores > last)
        ties = np.flatnonzero(scores == last)
        missing = size - len(above)
        if missing < len(ties):
            ties = ties[np.argpartition(ids[ties], missing - 1)[:missing]]
        rows = np.concatenate([above, ties])
    chosen: IntArray = rows[np.lexsort((ids[rows], -scores[rows].astype(np.float64)))]
    return chosen


class Contenders:
    """Rows that may be among the best of some column, collected batch by batch.

    A row stays as long as its score is not more than ``slack`` below the ``count``-th best of its
    column so far. So where no score is wrong by more than half of ``slack``, the best ``count`` of
    each column are among the rows that are left.

    Args:
        columns: T.
        count: how many of each column may be wanted, at least 1.
        slack: >= 0.

    Attributes:
        least: (T,) what a score must reach by now to be kept.
    """

    def __init__(self, columns: int, count: int, slack: float) -> None:
        self._count = count
        self._slack = slack
        self.least: NDArray[np.float32] = np.full(columns, -np.inf, dtype=np.float32)
        self._kept: list[tuple[IntArray, IntArray, NDArray[np.float32]]] = []
        self._size = 0
        self._limit = 4 * count * columns

    def add(self, rows: IntArray, scores: NDArray[np.float32]) -> None:
        """Look at some more rows: (B,) and their (B, T) scores."""
        at, columns = np.nonzero(scores >= self.least)
        if not len(at):
            return
        self._kept.append((rows[at], columns, scores[at, columns]))
        self._size += len(at)
        if self._size > self._limit:
            self._drop()

    def rows(self) -> IntArray:
        """The rows that are left, ascending."""
        self._drop()
        return np.unique(self._kept[0][0]) if self._kept else np.empty(0, dtype=np.int64)

    def _drop(self) -> None:
        """Raise each column's bar to what was seen, and forget what is below."""
        if not self._kept:
            return
        rows, columns, scores = (np.concatenate(part) for part in zip(*self._kept, strict=True))
        order = np.argsort(columns, kind="stable")
        rows, columns, scores = rows[order], columns[order], scores[order]
        ends = np.searchsorted(columns, np.arange(len(self.least) + 1))
        for column, (start, end) in enumerate(itertools.pairwise(ends.tolist())):
            if end - start >= self._count:
                cut = end - start - self._count
                bar = np.partition(scores[start:end], cut)[cut]
                self.least[column] = max(self.least[column], bar - np.float32(self._slack))
        stay = scores >= self.least[columns]
        self._kept = [(rows[stay], columns[stay], scores[stay])]
        self._size = int(stay.sum())
        self._limit = 2 * self._size + 4 * self._count * len(self.least)
