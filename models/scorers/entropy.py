"""Least decided first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scorers.softmax import Logs, SoftmaxScorer, entropy_of


class Entropy(SoftmaxScorer):
    """Least decided first: -sum_k p_k ln p_k, in [0, ln K].

    Needs the original head, and no labels beside it.

    Source: METHODS section 5.
    """

    reason = "undecided"

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """0 ln 0 is 0."""
        return entropy_of(logs)
