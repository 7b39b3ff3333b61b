"""The default's ablation: what the original head, or the re-calibration layer, gives tail classes.

No box is looked at beyond K logits: the largest probability of a tail class in a picture.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from models.config import MinerConfig, RecalibrationConfig
from models.detection.matching import LabeledSlots
from models.detection.recalibration import RecalibratedConvolution
from models.detection.scorers.base import PictureScores, State, most
from models.detection.slots import Slots
from models.types import ClassSpace


class TailConfidence:
    """The original head's largest probability of a tail class. Needs a tail class."""

    learns: ClassVar[bool] = False
    objects: ClassVar[bool] = False
    tail: ClassVar[bool] = True

    def __init__(self, config: MinerConfig, *, patch_size: int) -> None:
        self.patch_size = patch_size
        self.classes = ClassSpace(())

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Remember the tail."""
        self.classes = classes
        return self

    def scores(self, slots: Slots, count: int) -> PictureScores:
        """Of each picture the largest."""
        shares = expit(self._logits(slots)[:, list(self.classes.tail)])
        found = most(shares.max(axis=1, keepdims=True), slots, count, none=0.0)[:, 0]
        return PictureScores.plain(found, "tail confidence")

    def _logits(self, slots: Slots) -> NDArray[np.float32]:
        return slots.logits

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Nothing."""
        return {}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Remember the tail."""
        self.classes = classes
        return self


class TailConfidenceRc(TailConfidence):
    """The same of the re-calibrated convolution. Needs labeled boxes that the detector finds."""

    learns: ClassVar[bool] = True
    objects: ClassVar[bool] = True

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Train the layer."""
        self._layer = RecalibratedConvolution.fit(
            labeled,
            num_classes=classes.size,
            patch_size=self.patch_size,
            config=RecalibrationConfig(form="paper"),
            seed=seed,
        )
        return super().fit(labeled, pool, classes=classes, seed=seed)

    def _logits(self, slots: Slots) -> NDArray[np.float32]:
        return self._layer.logits(slots)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The layer."""
        return self._layer.state()

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take it back."""
        self._layer = RecalibratedConvolution.from_state(state)
        return super().restore(state, classes=classes)
