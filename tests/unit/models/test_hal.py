"""HAL by hand (METHODS section 6)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from models.config import MinerConfig
from models.scorers.density import Density, Surroundings
from models.scorers.hal import HalG, HalR
from models.scorers.margin import Margin
from models.types import ClassSpace, Examples, FloatArray, LabeledExamples

CONFIG = MinerConfig()
CLASSES = ClassSpace(("a", "b", "c"))


class AlwaysExploitR(HalR):
    exploit: ClassVar[float] = 1.0


class AlwaysExploitG(HalG):
    exploit: ClassVar[float] = 1.0


class NeverExploitR(HalR):
    exploit: ClassVar[float] = 0.0


class NeverExploitG(HalG):
    exploit: ClassVar[float] = 0.0


def _examples(features: FloatArray, *, first_id: int = 0, seed: int = 0) -> Examples:
    """With logits of the frozen model's own, so that no label is needed."""
    logits = np.random.default_rng(seed).normal(size=(len(features), 3)).astype(np.float32)
    ids = np.arange(len(features)) + first_id
    return Examples(ids, np.asarray(features, dtype=np.float32), logits)


def _fit(
    scorer: type[HalR], pool: Examples, labeled: Examples | None = None, *, delta: float = 0.0
) -> HalR:
    some = pool.take(np.arange(0)) if labeled is None else labeled
    targets = np.zeros(len(some), dtype=np.int64)
    fitted = scorer(CONFIG).fit(LabeledExamples(some, targets), pool, classes=CLASSES, seed=0)
    if delta:
        stored = fitted.state()
        stored["around.numbers"] = np.asarray([delta, 1.0])
        fitted = scorer(CONFIG).restore(stored, classes=CLASSES)
    return fitted


def _greedy(points: FloatArray, labels: FloatArray, delta: float) -> list[int]:
    """The definition, in plain sums over all pairs; ties by row."""
    known, order = list(labels), []
    for _ in points:
        sums = [
            np.inf if row in order else sum(np.exp(-((x - a) ** 2).sum() / delta) for a in known)
            for row, x in enumerate(points)
        ]
        order.append(int(np.argmin(sums)))
        known.append(points[order[-1]])
    return order


@pytest.mark.parametrize("scorer", [AlwaysExploitR, AlwaysExploitG])
def test_exploiting_only_is_margin_sampling(scorer: type[HalR]) -> None:
    pool = _examples(np.random.default_rng(0).normal(size=(60, 4)))
    found = _fit(scorer, pool).rank(pool, budget=60, seed=0)
    labeled = LabeledExamples(pool.take(np.arange(0)), np.empty(0, dtype=np.int64))
    margin = Margin(CONFIG).fit(labeled, pool, classes=CLASSES, seed=0)
    np.testing.assert_array_equal(found.ids, margin.rank(pool, budget=60, seed=0).ids)
    assert set(found.reasons) == {"margin"}


def test_exploring_at_random_is_a_uniform_permutation() -> None:
    pool = _examples(np.zeros((4, 2)))
    scorer = _fit(NeverExploitR, pool)
    orders = [tuple(scorer.rank(pool, budget=4, seed=s).ids.tolist()) for s in range(2400)]
    counts = np.unique(np.asarray(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    chi_square = ((counts - 100) ** 2 / 100).sum()
    # 23 degrees of freedom: 49.7 is exceeded once in a thousand times.
    assert chi_square < 49.7


def test_a_fair_coin_decides() -> None:
    pool = _examples(np.random.default_rng(0).normal(size=(1000, 3)))
    for scorer in (HalR, HalG):
        reasons = _fit(scorer, pool).rank(pool, budget=400, seed=1).reasons
        assert 160 < reasons.count("margin") < 240
        assert reasons.count("margin") + reasons.count("exploration") == 400


def test_with_one_label_the_farthest_comes_first() -> None:
    features = np.random.default_rng(0).normal(size=(50, 3))
    pool = _examples(features)
    around = Surroundings.fit(_examples(np.zeros((1, 3)), first_id=90), pool, seed=0)
    density, taken = Density(around, pool), np.zeros(50, dtype=bool)
    points = around.standardised(pool.features).numpy()
    label = around.standardised(np.zeros((1, 3), dtype=np.float32)).numpy()
    distances = ((points - label) ** 2).sum(axis=1)
    order = []
    for _ in range(50):  # nothing is added: the order is that of the label alone
        row = density.thinnest(taken)
        taken[row] = True
        order.append(row)
    np.testing.assert_array_equal(order, np.argsort(-distances))


@pytest.mark.parametrize("labels", [1, 7])
def test_exploration_is_the_greedy_choice_of_the_definition(labels: int) -> None:
    rng = np.random.default_rng(labels)
    pool = _examples(rng.normal(size=(40, 3)))
    labeled = _examples(rng.normal(size=(labels, 3)), first_id=100)
    scorer = _fit(NeverExploitG, pool, labeled)
    around = Surroundings.fit(labeled, pool, seed=0)
    points = around.standardised(pool.features).numpy()
    known = around.standardised(labeled.features).numpy()
    found = scorer.rank(pool, budget=40, seed=0).ids.tolist()
    assert found == _greedy(points, known, around.delta)


def test_sums_that_underflow_are_still_told_apart() -> None:
    rng = np.random.default_rng(0)
    pool = _examples(rng.normal(size=(30, 300)))
    labeled = _examples(rng.normal(size=(5, 300)), first_id=100)
    scorer = _fit(NeverExploitG, pool, labeled, delta=0.1)
    around = Surroundings.fit(labeled, pool, seed=0)
    points = around.standardised(pool.features).numpy()
    known = around.standardised(labeled.features).numpy()
    distances = ((points[:, None] - known) ** 2).sum(axis=2)
    assert np.exp(-distances / 0.1).max() == 0
    # So small a delta counts the nearest only: the first is farthest from its nearest.
    assert scorer.rank(pool, budget=1, seed=0).ids[0] == distances.min(axis=1).argmax()


def test_explored_picks_count_like_labels() -> None:
    # Two far clusters beside the label: the second pick goes to the other one.
    line = np.asarray([[0.0], [0.1], [10.0], [10.1], [-9.0], [-9.1]])
    pool = _examples(line)
    scorer = _fit(NeverExploitG, pool, _examples(np.zeros((1, 1)), first_id=100))
    assert scorer.rank(pool, budget=2, seed=0).ids.tolist() == [3, 5]


def test_without_a_label_the_first_look_is_uniform() -> None:
    pool = _examples(np.random.default_rng(0).normal(size=(8, 2)))
    scorer = _fit(NeverExploitG, pool)
    firsts = [int(scorer.rank(pool, budget=1, seed=s).ids[0]) for s in range(800)]
    counts = np.bincount(firsts, minlength=8)
    # 7 degrees of freedom: 24.3 is exceeded once in a thousand times.
    assert ((counts - 100) ** 2 / 100).sum() < 24.3


def test_delta_is_the_median_squared_distance_of_the_pool() -> None:
    pool = _examples(np.random.default_rng(0).normal(size=(200, 4)) * [1, 5, 0.5, 2] + 3)
    around = Surroundings.fit(pool.take(np.arange(0)), pool, seed=0)
    points = around.standardised(pool.features).numpy()
    assert points.mean(axis=0) == pytest.approx(0, abs=1e-5)
    assert points.std(axis=0) == pytest.approx(1, abs=1e-4)
    squared = ((points[:, None] - points) ** 2).sum(axis=2)
    assert around.delta == pytest.approx(np.median(squared[np.triu_indices(200, 1)]))


def test_of_many_labels_a_part_stands_for_all() -> None:
    rng = np.random.default_rng(0)
    many = _examples(rng.normal(size=(9000, 2)))
    around = Surroundings.fit(many, many, seed=0)
    assert len(around.points) == 2000
    assert around.each == pytest.approx(4.5)
