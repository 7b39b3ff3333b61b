"""Least confident first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scorers.softmax import Logs, SoftmaxScorer


class MaxScore(SoftmaxScorer):
    """Least confident first: 1 - max_k p_k, in [0, 1 - 1/K].

    Needs the original head, and no labels beside it.

    Source: METHODS section 5.
    """

    reason = "unsure"

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """The share of all classes but the likeliest."""
        least: NDArray[np.float64] = -np.expm1(logs.max(axis=1))
        return least
