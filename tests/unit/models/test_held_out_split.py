from __future__ import annotations

import hashlib

import numpy as np
import pytest

from models.errors import ConfigError, ShapeError
from models.held_out_split import held_out, validation

IDS = np.arange(1, 20_001)
PINNED = [9, 11, 15, 20, 33, 35, 40, 46]


def test_membership_is_what_it_has_always_been() -> None:
    # Written down: another salt or hash would judge models by what they were trained on.
    assert np.flatnonzero(held_out(np.arange(60))).tolist() == PINNED
    place = int.from_bytes(hashlib.sha256(b"rarefirst held out 1\x007").digest()[:8], "big")
    assert held_out(np.array([7]))[0] == (place / 2**64 < 0.2)


def test_it_depends_on_nothing_but_the_id() -> None:
    whole = held_out(IDS)
    order = np.random.default_rng(0).permutation(len(IDS))
    np.testing.assert_array_equal(held_out(IDS[order]), whole[order])
    np.testing.assert_array_equal(held_out(IDS[:100]), whole[:100])
    np.testing.assert_array_equal(held_out(IDS.astype(np.int32)), whole)


def test_shares_come_out_and_smaller_ones_are_parts_of_larger_ones() -> None:
    assert held_out(IDS).mean() == pytest.approx(0.2, abs=0.01)
    small, large = held_out(IDS, share=0.1), held_out(IDS, share=0.3)
    assert not (small & ~large).any()
    assert not held_out(IDS, share=0).any()
    assert held_out(IDS, share=1).all()


def test_validation_is_never_held_out_and_chosen_on_its_own() -> None:
    held, stops = held_out(IDS), validation(IDS)
    assert not (held & stops).any()
    assert stops[~held].mean() == pytest.approx(0.15, abs=0.01)
    assert not validation(IDS, share=0).any()


def test_ids_of_any_size_count_and_none_are_fine() -> None:
    assert held_out(np.array([2**62, -1])).shape == (2,)
    assert held_out(np.empty(0, dtype=np.int64)).shape == (0,)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError):
        held_out(IDS, share=1.1)
    with pytest.raises(ShapeError):
        held_out(np.array([1.0]))
    with pytest.raises(ShapeError):
        validation(np.array([[1]]))
