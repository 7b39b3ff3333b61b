"""Weighted Shannon entropy: shares over how skewed a class is, as printed and normalised."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.scorers.needs import Needs
from models.scorers.softmax import Logs, SoftmaxScorer, entropy_of


class Went(SoftmaxScorer):
    """Weighted Shannon entropy as printed: -sum_k q_k ln q_k, with q_k = p_k / (b_k K).

    b_k is the class's share of the labels.

    Not a distribution: q_k passes 1 as soon as p_k passes the skewness ratio b_k K, and the term
    turns negative. So this ranks what looks rare last; it is kept as printed, to compare with.
    Unbounded below. Needs labels, for b, and the original head. A class without a label counts as
    having one.

    Source: METHODS section 5.
    """

    needs: ClassVar[Needs] = Needs(classes=1, original_head=True)
    reason = "weighted entropy"

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """As printed."""
        return entropy_of(self.weighted(logs))

    def weighted(self, logs: Logs) -> Logs:
        """(N, K) logarithms of q."""
        skewness = np.maximum(self.seen, 1) * len(self.seen) / self.seen.sum()
        over: Logs = logs - np.log(skewness)
        return over


class WentNorm(Went):
    """Weighted Shannon entropy of q divided by its sum, so that it is an entropy, in [0, ln K].

    Needs labels and the original head.
    """

    reason = "weighted entropy, normalised"

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """Entropy of q, normalised."""
        q = self.weighted(logs)
        top = q.max(axis=1, keepdims=True)
        return entropy_of(q - top - np.log(np.exp(q - top).sum(axis=1, keepdims=True)))
