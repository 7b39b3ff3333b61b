"""A judge that was fitted on all labels is calibrated by layers that were not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.calibration import Calibration
from models.config import MinerConfig
from models.held_out import calibrated, log_odds
from models.holdouts import UNKNOWN, Provenance
from models.metrics import expected_calibration_error
from models.recipes.fit_miner import Miner, fit_miner
from models.types import ClassSpace, Examples, IntArray, LabeledExamples

NAMES = ("a", "b", "c", "rare")
SHARES = (0.5, 0.3, 0.15, 0.05)


def draw(seed: int, size: int) -> tuple[Examples, IntArray]:
    """Overlapping clouds in more dimensions than matter: held-out rows look less sure."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(4, p=SHARES, size=size)
    features = rng.normal(size=(size, 24)) + 2.0 * np.eye(4, 24)[targets]
    return Examples(np.arange(size) + seed * 10_000, features.astype(np.float16)), targets


def fit(
    labels: int = 600, *, provenance: Provenance = UNKNOWN, seed: int = 1, pool: int = 2000
) -> tuple[Miner, LabeledExamples, Examples, NDArray[np.bool_]]:
    examples, targets = draw(seed, labels)
    unlabeled, truth = draw(seed + 1, pool)
    labeled = LabeledExamples(examples, targets)
    miner = fit_miner(
        labeled,
        unlabeled,
        classes=ClassSpace(NAMES, (3,), SHARES),
        config=MinerConfig(autoencoder_steps=50, members=1),
        seed=0,
        provenance=provenance,
    )
    return miner, labeled, unlabeled, truth == 3


def uncalibrated(miner: Miner, folder: Path) -> Miner:
    miner.save(folder)
    other = Miner.load(folder)
    other.calibration = Calibration()
    return other


def test_the_rarity_reads_as_a_probability_and_the_order_stays(tmp_path: Path) -> None:
    miner, _, pool, rare = fit()
    plain = uncalibrated(miner, tmp_path)
    assert miner.calibration.method == "platt"
    assert miner.metrics["calibrated"] == 1
    before, after = plain.judge(pool).rarity, miner.judge(pool).rarity
    assert expected_calibration_error(after, rare) < 0.7 * expected_calibration_error(before, rare)
    assert after.mean() == pytest.approx(rare.mean(), rel=0.3)
    assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()
    rows = np.arange(len(pool))
    (told, queue), (_, other) = (
        one.rescore(pool, rows, budget=50, seed=0) for one in (miner, plain)
    )
    np.testing.assert_array_equal(queue.ids, other.ids)
    np.testing.assert_array_equal(told.rarity, after)


def test_it_is_kept_with_the_version(tmp_path: Path) -> None:
    miner, _, pool, _ = fit()
    miner.save(tmp_path)
    again = Miner.load(tmp_path)
    assert again.calibration == miner.calibration
    np.testing.assert_array_equal(again.judge(pool).rarity, miner.judge(pool).rarity)


def test_the_same_input_in_another_order_says_the_same() -> None:
    miner, labeled, pool, _ = fit()
    rows = np.random.default_rng(0).permutation(len(pool))
    other = fit_miner(
        replace(labeled),
        pool.take(rows).dense(),
        classes=miner.classes,
        config=miner.config,
        seed=0,
    )
    assert other.calibration.slope == pytest.approx(miner.calibration.slope, rel=1e-4)
    assert other.calibration.offset == pytest.approx(miner.calibration.offset, rel=1e-4)


@pytest.mark.parametrize(
    "provenance",
    [
        pytest.param(Provenance(trained_on=600), id="the-frozen-model-saw-them"),
        pytest.param(Provenance(unbiased=np.arange(600) < 30), id="nearly-all-mined"),
    ],
)
def test_labels_that_do_not_allow_it_leave_the_priors(provenance: Provenance) -> None:
    miner, _, _, _ = fit(provenance=provenance)
    assert miner.calibration.method == "priors"
    assert miner.metrics["calibrated"] == 0


def test_few_labels_and_an_empty_pool_leave_the_priors() -> None:
    assert not fit(60)[0].calibration.calibrated
    assert not fit(pool=0)[0].calibration.calibrated


def test_likelihoods_at_the_ends_stay_finite_and_in_order() -> None:
    ends = torch.tensor([0.0, 1e-38, 1e-9, 0.5, 1 - 1e-7, 1.0])
    assert bool(torch.isfinite(log_odds(ends)).all())
    found = calibrated(ends, Calibration(2.0, -30.0, 0.1, 9, "platt"))
    assert bool((found.diff() >= 0).all())
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert calibrated(ends, Calibration()) is ends
