"""Pictures in random order, by seed and id of none: the measure of all others."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.detection.matching import LabeledSlots
from models.detection.scorers.base import PictureScores, State
from models.detection.slots import Slots
from models.types import ClassSpace


class Random:
    """Uniform. Needs nothing."""

    learns: ClassVar[bool] = False
    objects: ClassVar[bool] = False
    tail: ClassVar[bool] = False

    def __init__(self, config: MinerConfig, *, patch_size: int) -> None:
        self._seed = 0

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Remember the seed."""
        self._seed = seed
        return self

    def scores(self, slots: Slots, count: int) -> PictureScores:
        """Drawn anew at each call, the same each time."""
        return PictureScores.plain(np.random.default_rng(self._seed).random(count), "random")

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The seed."""
        return {"seed": np.asarray([self._seed], dtype=np.int64)}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take it back."""
        self._seed = int(state["seed"][0])
        return self
