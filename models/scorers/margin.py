"""Nearest to the border between two classes first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scorers.softmax import Logs, SoftmaxScorer


class Margin(SoftmaxScorer):
    """Nearest to the border between two classes first: p_(2) - p_(1), in [-1, 0].

    Needs the original head, and no labels beside it.

    Source: METHODS section 6; the exploiting half of HAL.
    """

    reason = "between two classes"

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """Less of a margin is more of a score."""
        two = np.exp(np.partition(logs, -2, axis=1)[:, -2:])
        score: NDArray[np.float64] = two[:, 0] - two[:, 1]
        return score
