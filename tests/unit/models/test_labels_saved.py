from __future__ import annotations

import numpy as np
import pytest

from models.errors import ShapeError
from models.labels_saved import found_interval, labels_to_reach, mean_with_interval, saving
from models.metrics import BoolArray


def _hits(*places: int, size: int = 100) -> BoolArray:
    """Rare ones at these places of a queue, counted from 1."""
    hits = np.zeros(size, dtype=bool)
    hits[[place - 1 for place in places]] = True
    return hits


def test_labels_to_reach_counts_from_one() -> None:
    assert labels_to_reach(_hits(1, 5, 100), 1) == 1
    assert labels_to_reach(_hits(1, 5, 100), 2) == 5
    assert labels_to_reach(_hits(1, 5, 100), 3) == 100
    assert labels_to_reach(_hits(1, 5, 100), 4) is None


def test_interval_of_repeats() -> None:
    # Mean 10, standard deviation 2, t of 4 degrees of freedom 2.776.
    found = mean_with_interval([8.0, 8.0, 10.0, 12.0, 12.0])
    assert found.mean == 10
    assert found.high - 10 == pytest.approx(2.776 * 2 / 5**0.5, rel=0.01)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_one_repeat_has_no_interval() -> None:
    found = mean_with_interval([7.0])
    assert (found.low, found.mean, found.high) == (7.0, 7.0, 7.0)


def test_what_is_found_lies_between_none_and_all() -> None:
    found = found_interval([0, 10], 10)
    assert (found.low, found.mean, found.high) == (0.0, 5.0, 10.0)


def test_saving_is_paired() -> None:
    # Each repeat saves 50 of its labels, though the repeats themselves differ by 40.
    hits = [_hits(10, 20), _hits(50, 60)]
    chance = [_hits(30, 70), _hits(60, 110, size=120)]
    found = saving(hits, chance, total=2, share=0.9)
    assert found.rare == 2  # rounded up
    assert found.reached == 2
    assert found.labels is not None
    assert found.labels.mean == 40
    assert found.saved is not None
    assert (found.saved.low, found.saved.mean, found.saved.high) == (50, 50, 50)
    assert found.saved_share is not None
    assert found.saved_share.mean == pytest.approx((50 / 70 + 50 / 110) / 2)


def test_labels_are_not_fewer_than_what_is_found() -> None:
    found = saving([_hits(1, 2), _hits(1, 90)], [_hits(1, 90), _hits(1, 2)], total=2, share=1.0)
    assert found.labels is not None
    assert (found.labels.mean, found.labels.low, found.random.low) == (46, 2, 2)
    assert found.saved is not None
    assert found.saved.low < 0 < found.saved.high  # an order may also cost labels


def test_what_one_repeat_does_not_reach_has_no_mean() -> None:
    found = saving([_hits(1, 2), _hits(1)], [_hits(3, 4), _hits(5, 6)], total=2, share=1.0)
    assert found.reached == 1
    assert found.labels is None
    assert found.saved is None
    assert found.saved_share is None
    assert found.random.mean == 5


def test_random_order_must_be_whole_and_paired() -> None:
    with pytest.raises(ShapeError, match="give all of it"):
        saving([_hits(1, 2)], [_hits(1)], total=2, share=1.0)
    with pytest.raises(ShapeError, match="pairs"):
        saving([_hits(1)], [], total=1, share=1.0)
    with pytest.raises(ShapeError, match="pairs"):
        saving([], [], total=1, share=1.0)
