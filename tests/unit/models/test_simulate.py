from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from models.config import MinerConfig
from models.errors import ShapeError
from models.recipes.simulate import Simulation, simulate
from models.types import ClassSpace, Examples

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
