"""Baselines on the original head: entropy and largest probability, mean over the surest detections.

The softmax over a detection's K class logits stands for the distribution over classes; background
has no column (METHODS sections 4 and 5: aggregation of baselines is not published, this is ours).
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from models.autoencoder import softmax
from models.config import MinerConfig
from models.detection.matching import LabeledSlots
from models.detection.scorers.base import PictureScores, State, mean_of_surest
from models.detection.slots import Slots
from models.types import ClassSpace


class Entropy:
    """Entropy of the original head's softmax. Needs nothing."""

    learns: ClassVar[bool] = False
    objects: ClassVar[bool] = False
    tail: ClassVar[bool] = False
    reason: ClassVar[str] = "entropy"

    def __init__(self, config: MinerConfig, *, patch_size: int) -> None: ...

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Nothing is learned."""
        return self

    def scores(self, slots: Slots, count: int) -> PictureScores:
        """Mean over the surest detections; 0 without any."""
        each = self.of(softmax(slots.logits)) if len(slots) else np.zeros(0)
        return PictureScores.plain(mean_of_surest(each, slots, count), self.reason)

    def of(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) of (M, K) distributions."""
        found: NDArray[np.float64] = -xlogy(shares, shares).sum(axis=1)
        return found

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Nothing."""
        return {}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Nothing."""
        return self


class MaxScore(Entropy):
    """One less the original head's largest share. Needs nothing."""

    reason: ClassVar[str] = "uncertainty"

    def of(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M,) of (M, K) distributions."""
        found: NDArray[np.float64] = 1 - shares.max(axis=1)
        return found
