"""Hybrid active learning: a coin decides between the smallest margin and a look around.

One pick at a time, without replacement. Two public re-implementations invert the sign of one part
or the other; this follows the definitions (METHODS section 6).
Source: Kazerouni et al. 2020, arXiv:2005.11442.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.scorers.base import State, check_shapes, part_of
from models.scorers.best import best_rows
from models.scorers.density import Density, Surroundings
from models.scorers.margin import Margin
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue

Explorer = Callable[[NDArray[np.bool_]], int]


class HalR(Margin):
    """HAL-R: by a coin, exploit by margin or explore uniformly.

    Needs the original head, and no labels beside it.

    Attributes:
        exploit: probability of a pick by margin [S].
    """

    exploit: ClassVar[float] = 0.5

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Coin by coin."""
        margins = self.scores(pool).round(9)
        size = min(max(budget, 0), len(pool))
        # Coins and draws are streams of their own: neither depends on the budget.
        coins = np.random.default_rng((seed, 0)).random(size) < self.exploit
        explore = self.explorer(pool, uniform(pool, seed)) if size else None
        order = iter(best_rows(margins, pool.ids, len(pool)).tolist())
        taken = np.zeros(len(pool), dtype=bool)
        rows: list[int] = []
        for exploits in coins:
            if exploits or explore is None:
                row = next(row for row in order if not taken[row])
            else:
                row = explore(taken)
            taken[row] = True
            rows.append(row)
        reasons = tuple("margin" if exploits else "exploration" for exploits in coins)
        return RankedQueue(ids=pool.ids[np.asarray(rows, dtype=np.int64)], reasons=reasons)

    def explorer(self, pool: Examples, anywhere: Explorer) -> Explorer:
        """What finds the next row to explore, given (N,) which are taken."""
        return anywhere


class HalG(HalR):
    """HAL-G: by a coin, exploit by margin or explore where labels are thin.

    Explores at the smallest u(x) = sum_a exp(-|x - a|^2 / delta) in features standardised on the
    pool, delta the median squared distance between pool rows [O]; what was explored counts like a
    label. Without any label the first look is a uniform one. Needs the original head only.
    """

    def __init__(self, config: MinerConfig) -> None:
        super().__init__(config)
        self._surroundings: Surroundings | None = None

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """The original head, and where the labels lie."""
        super().fit(labeled, pool, classes=classes, seed=seed)
        check_shapes(pool)
        self._surroundings = Surroundings.fit(labeled.examples, pool, seed=seed)
        return self

    def explorer(self, pool: Examples, anywhere: Explorer) -> Explorer:
        """The emptiest place that is left."""
        if self._surroundings is None:
            raise RuntimeError("rank was called before fit")
        density = Density(self._surroundings, pool)

        def explore(taken: NDArray[np.bool_]) -> int:
            row = density.thinnest(taken) if density.known else anywhere(taken)
            density.add(row)
            return row

        return explore

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Head and labels."""
        around = {} if self._surroundings is None else self._surroundings.state()
        return super().state() | {f"around.{name}": value for name, value in around.items()}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take them back."""
        super().restore(state, classes=classes)
        self._surroundings = Surroundings.from_state(part_of(state, "around."))
        return self


def uniform(pool: Examples, seed: int) -> Explorer:
    """Uniform draws without replacement, by id: the pool's order does not matter."""
    by_id = np.argsort(pool.ids, kind="stable")
    order = iter(np.random.default_rng((seed, 1)).permutation(by_id).tolist())
    return lambda taken: next(row for row in order if not taken[row])
