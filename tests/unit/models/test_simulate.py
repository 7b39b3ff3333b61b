from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import pytest
from sklearn.datasets import load_digits

from models.config import MinerConfig
from models.errors import ConfigError, ShapeError
from models.recipes import fit_miner
from models.recipes.simulate import Simulation, simulate, stratified_start
from models.scorers.random import Random
from models.types import ClassSpace, Examples, IntArray, RankedQueue

RARE = (3, 8)


def _digits(scorer: str) -> Simulation:
    """Raw pixels as features: no network, the miner alone."""
    digits = load_digits()
    rng = np.random.default_rng(0)
    labeled, pool = [], []
    for k in range(10):
        rows = rng.permutation(np.flatnonzero(digits.target == k))
        first, rest = (4, 15) if k in RARE else (19, len(rows))
        labeled += rows[:first].tolist()
        pool += rows[first : first + rest].tolist()
    keep = np.asarray(labeled + pool)
    return simulate(
        Examples(np.arange(len(keep)), digits.data[keep].astype(np.float32)),
        digits.target[keep].astype(np.int64),
        labeled=np.arange(len(labeled)),
        classes=ClassSpace(tuple(map(str, range(10))), RARE),
        rounds=6,
        config=MinerConfig(scorer=scorer, autoencoder_steps=1000, members=2),
    )


def test_rare_digits_are_found_first() -> None:
    result = _digits("rarefirst")
    assert result.rare == 30
    assert result.by_chance == pytest.approx(30 * 60 / 1302, rel=0.05)
    assert len(set(result.served.tolist())) == 60
    assert result.found[-1] >= 20
    assert list(result.found) == sorted(result.found)
    assert min(result.found_by_class.values()) >= 8
    assert sum(result.found_by_class.values()) == result.found[-1]


def test_random_order_finds_what_chance_does() -> None:
    assert _digits("random").found[-1] <= 6


def test_one_target_for_each_example() -> None:
    with pytest.raises(ShapeError):
        simulate(
            Examples(np.arange(3), np.zeros((3, 2))),
            np.zeros(2, dtype=np.int64),
            labeled=np.arange(1),
            classes=ClassSpace(("a",)),
            rounds=1,
        )


def _line(size: int) -> tuple[Examples, IntArray]:
    """Features 0, 1, 2 and so on; every fifth is rare."""
    features = np.arange(size, dtype=np.float32)[:, None]
    return Examples(np.arange(size), features), (np.arange(size) % 5 == 4).astype(np.int64)


def test_no_round_follows_the_one_that_empties_the_pool() -> None:
    examples, targets = _line(40)
    told: list[int] = []
    result = simulate(
        examples,
        targets,
        labeled=np.arange(10),
        classes=ClassSpace(("common", "rare"), (1,)),
        rounds=9,
        batch=12,
        config=MinerConfig(scorer="random"),
        progress=lambda done, total, message="": told.append(done),
    )
    assert result.labels == (12, 24, 30)
    assert sorted(result.served.tolist()) == list(range(10, 40))
    assert result.found[-1] == result.rare == 6
    assert result.by_chance == 6
    assert told == [1, 2, 3]


@pytest.mark.parametrize(("rounds", "batch"), [(0, 10), (1, 0)])
def test_a_round_has_labels(rounds: int, batch: int) -> None:
    examples, targets = _line(20)
    with pytest.raises(ConfigError, match="1 or more"):
        simulate(
            examples,
            targets,
            labeled=np.arange(5),
            classes=ClassSpace(("common", "rare"), (1,)),
            rounds=rounds,
            batch=batch,
        )


class _Follows(Random):
    """Asks for the lowest id, then for five further on while what it saw was rare."""

    def ask(
        self,
        pool: Examples,
        oracle: Callable[[IntArray], IntArray],
        *,
        budget: int,
        seed: int,
    ) -> RankedQueue:
        left = sorted(pool.ids.tolist())
        order: list[int] = []
        while left and len(order) < budget:
            following = order[-1] + 5 if order else None
            task = following if following in left else left[0]
            left.remove(task)
            if not oracle(np.asarray([task]))[0] and following is not None:
                left = [one for one in left if one % 5 == 4] or left
            order.append(task)
        return RankedQueue(np.asarray(order, dtype=np.int64))


def test_a_scorer_that_asks_is_told_each_label(monkeypatch: pytest.MonkeyPatch) -> None:
    table = MappingProxyType({**fit_miner.SCORERS, "follows": _Follows})
    monkeypatch.setattr(fit_miner, "SCORERS", table)
    examples, targets = _line(60)
    result = simulate(
        examples,
        targets,
        labeled=np.arange(4),  # the first rare one is the pool's first
        classes=ClassSpace(("common", "rare"), (1,)),
        rounds=2,
        batch=5,
        config=MinerConfig(scorer="follows"),
    )
    assert result.served.tolist() == [4, 9, 14, 19, 24, 5, 10, 29, 34, 39]
    assert result.found == (5, 8)


def test_what_cannot_be_mined_is_explained_once() -> None:
    examples, targets = _line(40)
    result = simulate(
        examples,
        targets,
        labeled=np.arange(8),
        classes=ClassSpace(("common", "rare"), (1,)),
        rounds=3,
        batch=3,
        config=MinerConfig(scorer="tail_mass", min_labels=12),
    )
    assert len(result.explanations) == 2  # after 8 and after 11 labels, not after 14
    assert all("too few to mine" in text for text in result.explanations)


def test_start_takes_each_class_by_its_share() -> None:
    targets = np.repeat([0, 1, 2, 3], [600, 300, 99, 1]).astype(np.int64)
    rows = stratified_start(targets, 100, num_classes=4, seed=0)
    counts = np.bincount(targets[rows], minlength=4)
    assert counts.tolist() == [60, 30, 10, 0]  # the only example of class 3 is there to be found
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert (stratified_start(targets, 100, num_classes=4, seed=0) == rows).all()
    other = stratified_start(targets, 100, num_classes=4, seed=1)
    assert (np.bincount(targets[other], minlength=4) == counts).all()
    assert set(other.tolist()) != set(rows.tolist())


def test_start_takes_one_of_each_class_where_that_is_possible() -> None:
    targets = np.repeat([0, 1, 2], [90, 8, 2]).astype(np.int64)
    for count, wanted in ((3, [1, 1, 1]), (10, [8, 1, 1]), (2, [2, 0, 0]), (0, [0, 0, 0])):
        rows = stratified_start(targets, count, num_classes=3, seed=0)
        assert np.bincount(targets[rows], minlength=3).tolist() == wanted
    everything = stratified_start(targets, 100, num_classes=3, seed=0)
    assert everything.tolist() == list(range(100))


@pytest.mark.parametrize("count", [-1, 5])
def test_start_is_refused_beyond_what_is_there(count: int) -> None:
    with pytest.raises(ConfigError, match="expected 0 to 4"):
        stratified_start(np.asarray([0, 0, 1, 1, 2]), count, num_classes=3, seed=0)
