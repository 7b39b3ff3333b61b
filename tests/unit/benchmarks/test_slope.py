"""Slopes of what is sampled, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.slope import slope

TIMES = np.arange(0, 1800, 5.0)


def test_a_straight_line() -> None:
    found = slope(TIMES, 100 + 7 * TIMES / 3600)
    assert found.per_hour == pytest.approx(7)
    assert (found.low, found.high) == pytest.approx((7, 7))
    assert found.mean == pytest.approx(100 + 7 * TIMES.mean() / 3600)
    assert found.blocks == 30


def test_the_interval_holds_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        found = slope(TIMES, 50 + 3 * TIMES / 3600 + rng.normal(0, 2, len(TIMES)))
        held += found.low <= 3 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_samples_that_follow_each_other_are_not_counted_one_by_one() -> None:
    """Five samples a block that say the same tell no more than one."""
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 1, 30)
    once = slope(np.arange(30) * 60.0, noise)
    again = slope(np.repeat(np.arange(30) * 60.0, 5), np.repeat(noise, 5))
    assert (again.low, again.high) == pytest.approx((once.low, once.high))


def test_too_short() -> None:
    with pytest.raises(ValueError, match="found 2 blocks of 60 s, expected 3"):
        slope([0.0, 59.0, 61.0], [1.0, 2.0, 3.0])
