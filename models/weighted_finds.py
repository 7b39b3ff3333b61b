"""What an order finds where each row of it stands for several tasks.

With weights of 1 the figures are those of ``models.metrics``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.types import FloatArray, IntArray


@dataclass(frozen=True)
class Finds:
    """What an order over the hidden labels finds, by tasks labeled of the imitated pool.

    Attributes:
        labels: (H + 1,) tasks labeled after each row of the order, from 0 on.
        found: (H + 1,) rare ones among them.
        found_by_class: (T, H + 1) the same by tail class.
        totals: (T,) rare ones that are hidden.
    """

    labels: NDArray[np.float64]
    found: NDArray[np.float64]
    found_by_class: NDArray[np.float64]
    totals: NDArray[np.float64]

    @classmethod
    def of(
        cls, targets: IntArray, weights: FloatArray, tail: Sequence[int], totals: Sequence[int]
    ) -> Finds:
        """From classes and weights of the rows in queue order."""
        hits = targets[None, :] == np.asarray(tail, dtype=np.int64)[:, None]
        by_class = np.cumsum(np.pad(hits, ((0, 0), (1, 0))), axis=1).astype(np.float64)
        return cls(
            labels=np.concatenate([[0.0], np.cumsum(weights)]),
            found=by_class.sum(axis=0),
            found_by_class=by_class,
            totals=np.asarray(totals, dtype=np.float64),
        )

    def at(self, labels: float) -> float:
        """Rare ones found with so many labels; part of a row that stands for several counts."""
        return float(np.interp(labels, self.labels, self.found))

    def recall_at(self, labels: float) -> NDArray[np.float64]:
        """(T,) recall of each tail class with so many labels."""
        found = [np.interp(labels, self.labels, row) for row in self.found_by_class]
        return np.asarray(found, dtype=np.float64) / self.totals

    def average_precision(self) -> float:
        """Precision at each rare one, over all of them."""
        hits = np.flatnonzero(np.diff(self.found)) + 1
        return float((self.found[hits] / self.labels[hits]).sum() / self.totals.sum())

    def coverage(self, labels: float) -> float:
        """Recall of a tail class, averaged over the classes and over the first ``labels``."""
        inside = self.labels < labels
        x = np.append(self.labels[inside], labels)
        recall = np.vstack([self.found_by_class[:, inside].T, self.recall_at(labels) * self.totals])
        y = (recall / self.totals).mean(axis=1)
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum() / labels)
