"""Any order: what every other scorer is measured against."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.scorers.base import State, check_examples, check_labeled
from models.scorers.needs import Needs, check_needs
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue


class Random:
    """A uniform permutation by seed.

    Needs nothing.
    """

    needs: ClassVar[Needs] = Needs()

    def __init__(self, config: MinerConfig) -> None:
        self.config = config

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Nothing to learn; bad input is refused all the same."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Uniformly drawn, without replacement."""
        check_examples(pool)
        # By id, so that the order in which the pool comes does not matter.
        ids = np.random.default_rng(seed).permutation(np.sort(pool.ids))[: max(budget, 0)]
        return RankedQueue(ids=ids, reasons=("random",) * len(ids))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Nothing."""
        return {}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Nothing to take back."""
        return self
