"""Log-odds become probabilities that hold in the pool: synthetic scores whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit, logit

from models.calibration import (
    Calibration,
    PoolLogOdds,
    calibrate,
    from_part,
    priors_of,
)
from models.errors import ShapeError
from models.metrics import expected_calibration_error
from models.types import ClassSpace

NAMES = ("common", "rare")


@dataclass
class Scores:
    """Two Gaussian classes whose true log-odds are known, told too flat and too low.

    Attributes:
        told: log-odds as a shrunk layer says them, at the priors ``told_at``.
        targets: 1 is rare.
    """

    told: NDArray[np.float64]
    targets: NDArray[np.int64]


def draw(seed: int, *, size: int, share: float, told_at: float, shift: float = -1.0) -> Scores:
    rng = np.random.default_rng(seed)
    targets = (rng.random(size) < share).astype(np.int64)
    x = rng.normal(size=size) + 3.0 * targets
    return Scores(0.5 * (3.0 * x - 4.5) + shift + float(logit(told_at)), targets)


def at(share: float) -> ClassSpace:
    return ClassSpace(NAMES, (1,), (1 - share, share))


def same(told: NDArray[np.float64]) -> PoolLogOdds:
    return PoolLogOdds(told, told)


def error(found: Calibration, pool: Scores) -> float:
    return expected_calibration_error(found.likelihood(pool.told), pool.targets == 1)


def test_what_is_told_too_low_and_too_flat_is_mended() -> None:
    labels = draw(0, size=3000, share=0.05, told_at=0.05)
    pool = draw(1, size=8000, share=0.05, told_at=0.05)
    found = calibrate(labels.told, labels.targets, same(pool.told), classes=at(0.05))
    assert (found.method, found.calibrated) == ("platt", True)
    assert found.slope == pytest.approx(2.0, rel=0.25)
    assert error(found, pool) < 0.3 * error(Calibration(), pool)
    assert found.likelihood(pool.told).mean() == pytest.approx(0.05, rel=0.2)
    assert found.metrics["calibrated"] == 1
    assert found.metrics["tail_share"] == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("known", [True, False])
def test_the_pool_has_its_say_where_labels_were_picked_by_hand(share: float, known: bool) -> None:
    # A fifth of the labels is rare, whatever the pool holds.
    labels = draw(2, size=400, share=0.2, told_at=0.2)
    pool = draw(3, size=8000, share=share, told_at=0.2)
    classes = at(0.2) if known else ClassSpace(NAMES, (1,))
    found = calibrate(labels.told, labels.targets, same(pool.told), classes=classes)
    expected = found.likelihood(pool.told).mean() / pool.targets.mean()
    if found.method == "platt":  # the labels' share is within the factor that is let pass
        assert 0.02 < share < 0.8
    else:
        assert 0.5 < expected < 2
    if not known or share == 0.01:
        assert found.method == "platt, shares of the pool"
        assert found.share == pytest.approx(share, rel=0.7)


def test_priors_that_the_pool_agrees_with_are_kept() -> None:
    # The labels are skewed, the priors are told, and the pool is as they say.
    labels = draw(4, size=4000, share=0.02, told_at=0.3)
    pool = draw(5, size=4000, share=0.3, told_at=0.3)
    found = calibrate(labels.told, labels.targets, same(pool.told), classes=at(0.3))
    assert found.method == "platt"
    assert found.share == pytest.approx(0.3)
    assert error(found, pool) < 0.3 * error(Calibration(), pool)


def test_mined_labels_do_not_shape_it() -> None:
    everything = draw(6, size=6000, share=0.05, told_at=0.05)
    order = np.argsort(-everything.told)
    fair = np.random.default_rng(0).permutation(6000)[:1500]
    mined = np.setdiff1d(order[:400], fair)
    left = np.setdiff1d(np.arange(6000), np.concatenate([fair, mined]))
    rows = np.concatenate([fair, mined])
    chosen = np.arange(len(rows)) >= len(fair)
    pool = Scores(everything.told[left], everything.targets[left])
    told, targets = everything.told[rows], everything.targets[rows]
    found = calibrate(told, targets, same(pool.told), classes=at(0.05), chosen=chosen)
    blind = calibrate(told, targets, same(pool.told), classes=at(0.05))
    truth = pool.targets.mean()
    assert found.likelihood(pool.told).mean() == pytest.approx(truth, abs=0.006)
    assert error(found, pool) < error(blind, pool)
    assert found.labels == everything.targets[fair].sum()


def test_labels_that_were_left_out_are_stood_for() -> None:
    labels = draw(11, size=6000, share=0.05, told_at=0.05)
    pool = draw(12, size=4000, share=0.05, told_at=0.05)
    rare = np.flatnonzero(labels.targets)
    common = np.flatnonzero(labels.targets == 0)
    kept = np.concatenate([rare, common[::5]])
    stands = np.where(labels.targets[kept] == 1, 1.0, len(common) / len(common[::5]))
    whole = calibrate(labels.told, labels.targets, same(pool.told), classes=at(0.05))
    part = calibrate(
        labels.told[kept], labels.targets[kept], same(pool.told), classes=at(0.05), weights=stands
    )
    assert part.slope == pytest.approx(whole.slope, rel=0.15)
    assert part.likelihood(pool.told) == pytest.approx(whole.likelihood(pool.told), abs=0.1)
    blind = calibrate(
        labels.told[kept], labels.targets[kept], same(pool.told), classes=ClassSpace(NAMES, (1,))
    )
    assert error(part, pool) < error(blind, pool) + 0.01


def test_the_model_that_is_used_is_shifted_to_what_the_folds_expect() -> None:
    labels = draw(7, size=3000, share=0.05, told_at=0.05)
    pool = draw(8, size=6000, share=0.05, told_at=0.05)
    used = pool.told + 1.0  # it saw a third more labels
    found = calibrate(labels.told, labels.targets, PoolLogOdds(used, pool.told), classes=at(0.05))
    assert found.likelihood(used).mean() == pytest.approx(0.05, rel=0.2)


@pytest.mark.parametrize(("rare", "common"), [(7, 500), (500, 7), (0, 100), (100, 0)])
def test_too_few_labels_leave_the_priors_and_say_so(rare: int, common: int) -> None:
    targets = np.concatenate([np.ones(rare, np.int64), np.zeros(common, np.int64)])
    told = np.random.default_rng(0).normal(size=len(targets))
    found = calibrate(told, targets, same(told), classes=at(0.1))
    assert (found.method, found.calibrated, found.labels) == ("priors", False, rare)
    assert found.metrics == {"calibrated": 0.0, "calibration_labels": float(rare)}
    assert found.likelihood(told) == pytest.approx(expit(told))
    mined = calibrate(told, targets, same(told), classes=at(0.1), chosen=np.ones_like(told, bool))
    assert not mined.calibrated
    nobody = calibrate(told, targets, same(told[:0]), classes=at(0.1))
    assert not nobody.calibrated


@given(
    seed=st.integers(0, 10_000),
    rare=st.integers(8, 40),
    spread=st.floats(0.01, 300),
    helps=st.floats(-5, 5),
    priors=st.sampled_from([None, 1e-6, 0.01, 0.5, 0.999]),
)
@settings(max_examples=60, deadline=None)
def test_no_order_is_ever_changed(
    seed: int, rare: int, spread: float, helps: float, priors: float | None
) -> None:
    rng = np.random.default_rng(seed)
    targets = (np.arange(120) < rare).astype(np.int64)
    told = spread * (rng.normal(size=120) + helps * targets)
    pool = spread * rng.normal(size=200)
    classes = ClassSpace(NAMES, (1,)) if priors is None else at(priors)
    found = calibrate(told, targets, same(pool), classes=classes)
    assert found.slope > 0
    likelihood = found.likelihood(np.sort(pool))
    assert (np.diff(likelihood) >= 0).all()
    assert np.isfinite(likelihood).all()
    assert 0 <= likelihood.min() <= likelihood.max() <= 1
    assert Calibration.from_state(found.state()) == found
    # The same labels and pool in another order say the same.
    rows, other = rng.permutation(120), rng.permutation(200)
    again = calibrate(told[rows], targets[rows], same(pool[other]), classes=classes)
    assert again.slope == pytest.approx(found.slope, rel=1e-4)
    assert again.offset == pytest.approx(found.offset, rel=1e-3, abs=1e-3)


def test_a_version_from_before_reads_as_it_did() -> None:
    assert from_part({}, "calibration") == Calibration()
    kept = Calibration(1.5, -2.0, 0.01, 12, "platt")
    assert from_part({"calibration": kept.state()}, "calibration") == kept


def test_priors_are_the_shares_of_the_labels_smoothed() -> None:
    priors = priors_of(ClassSpace(("a", "b", "c")), np.asarray([7, 1, 0]))
    assert priors == pytest.approx([8 / 11, 2 / 11, 1 / 11])


def test_priors_without_a_tail_do_not_break_it() -> None:
    labels = draw(9, size=600, share=0.2, told_at=0.2)
    pool = draw(10, size=2000, share=0.2, told_at=0.2)
    nobody = ClassSpace(at(0.2).names, at(0.2).tail, (1.0, 0.0))
    found = calibrate(labels.told, labels.targets, same(pool.told), classes=nobody)
    assert np.isfinite([found.slope, found.offset, found.share]).all()


def test_a_large_pool_is_looked_at_in_part() -> None:
    labels = draw(9, size=2000, share=0.2, told_at=0.2)
    pool = draw(10, size=200_000, share=0.01, told_at=0.2)
    found = calibrate(labels.told, labels.targets, same(pool.told), classes=at(0.2))
    assert found.share == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize(
    ("told", "targets", "pool", "words"),
    [
        (np.zeros(3), np.zeros(2, np.int64), same(np.zeros(4)), r"found log-odds \(3,\)"),
        (
            np.zeros(2),
            np.zeros(2, np.int64),
            PoolLogOdds(np.zeros(4), np.zeros(3)),
            r"a pool \(4,\) and \(3,\)",
        ),
        (np.asarray([0, np.nan]), np.zeros(2, np.int64), same(np.zeros(4)), "not finite"),
        (np.zeros(2), np.zeros(2, np.int64), same(np.asarray([np.inf])), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(
    told: NDArray[np.float64], targets: NDArray[np.int64], pool: PoolLogOdds, words: str
) -> None:
    with pytest.raises(ShapeError, match=words):
        calibrate(told, targets, pool, classes=at(0.1))
