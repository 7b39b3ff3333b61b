from __future__ import annotations

import numpy as np
import pytest

from models.config import RecalibrationConfig
from models.mixed_layer import MixedLayer
from models.types import ClassSpace, FloatArray, IntArray, numbered
from models.whitening import Whitened

NAMES = ("a", "b", "c", "d")


def _world(
    labels: tuple[int, ...], pool: tuple[int, ...], *, width: int = 30, seed: int = 0
) -> tuple[FloatArray, IntArray, FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    centers = 0.8 * np.random.default_rng(9).normal(size=(4, width))
    targets, truth = np.repeat(np.arange(4), labels), np.repeat(np.arange(4), pool)
    features, unlabeled = (
        (centers[of] + rng.normal(size=(len(of), width))).astype(np.float32)
        for of in (targets, truth)
    )
    return features, targets, unlabeled, truth


def _fit(
    features: FloatArray,
    targets: IntArray,
    pool: FloatArray,
    *,
    tail: tuple[int, ...] = (3,),
    config: RecalibrationConfig | None = None,
) -> MixedLayer:
    space = Whitened.fit(features, targets, numbered(pool), num_classes=4)
    return MixedLayer.fit(
        features,
        targets,
        numbered(pool),
        space=space,
        classes=ClassSpace(NAMES, tail),
        config=config or RecalibrationConfig(),
        seed=0,
    )


@pytest.mark.parametrize("form", ["regularised", "paper", "released"])
def test_it_tells_the_classes_apart(form: str) -> None:
    features, targets, pool, truth = _world((100, 100, 100, 12), (300, 300, 300, 60))
    config = RecalibrationConfig.model_validate({"form": form})
    mixed = _fit(features, targets, pool, config=config)
    assert (mixed.layer.logits(pool).argmax(axis=1) == truth).mean() > 0.9


def test_labels_and_the_pool_decide_the_mixture() -> None:
    share = {}
    for labels in (0, 10, 90):
        features, targets, pool, _ = _world((100, 100, 100, labels), (3000, 3000, 3000, 10))
        mixed = _fit(features, targets, pool)
        assert mixed.mixture.plenty == 0
        share[labels] = mixed.mixture.share
    assert share == pytest.approx({0: 0, 10: 0.75 / 2, 90: 0.75 * 0.9})
    features, targets, pool, _ = _world((100, 100, 100, 90), (300, 300, 300, 100))
    mixed = _fit(features, targets, pool)
    assert mixed.mixture.plenty == 1
    assert mixed.mixture.share == pytest.approx(0.25 * 0.9)
    np.testing.assert_allclose(mixed.shares, [0.3, 0.3, 0.3, 0.1], atol=0.03)


def test_the_same_labels_again_give_the_same_layer() -> None:
    features, targets, pool, _ = _world((60, 60, 60, 20), (300, 300, 300, 60))
    mixed = _fit(features, targets, pool)
    again = mixed.again(features, targets)
    np.testing.assert_allclose(again.weight, mixed.layer.weight, atol=1e-5)
    np.testing.assert_allclose(again.bias, mixed.layer.bias, atol=1e-4)
    half = mixed.again(features[::2], targets[::2])
    agree = half.logits(pool).argmax(axis=1) == mixed.layer.logits(pool).argmax(axis=1)
    assert agree.mean() > 0.9


def test_tail_classes_without_labels_lie_at_one_place_and_count_as_one() -> None:
    features, targets, pool, truth = _world((100, 100, 0, 0), (300, 300, 150, 0))
    mixed = _fit(features, targets, pool, tail=(2, 3))
    logits = mixed.layer.logits(pool)
    np.testing.assert_allclose(logits[:, 2], logits[:, 3])
    alone = _fit(features, targets, pool, tail=(2,)).layer.logits(pool)
    together = np.logaddexp(logits[:, 2], logits[:, 3]) - np.logaddexp(logits[:, 0], logits[:, 1])
    np.testing.assert_allclose(
        together, alone[:, 2] - np.logaddexp(alone[:, 0], alone[:, 1]), atol=1e-2
    )
    # The third class was never shown, and is found.
    assert np.mean(truth[np.argsort(-together)[:100]] == 2) > 0.9


def test_a_class_of_which_nothing_is_known_is_never_likely() -> None:
    features, targets, pool, _ = _world((100, 100, 0, 20), (300, 300, 50, 50))
    logits = _fit(features, targets, pool).layer.logits(pool)
    assert (logits[:, 2] < -1000).all()


def test_wide_features_are_looked_at_where_classes_differ() -> None:
    features, targets, pool, truth = _world((60, 60, 60, 20), (200, 200, 200, 60), width=450)
    mixed = _fit(features, targets, pool)
    assert mixed.layer.weight.shape == (450, 4)
    assert (mixed.layer.logits(pool).argmax(axis=1) == truth).mean() > 0.95


def test_classes_that_look_like_points_do_not_drown_in_their_logits() -> None:
    rng = np.random.default_rng(0)
    targets, truth = np.repeat([0, 1, 3], [30, 30, 6]), np.repeat([0, 1, 3], [300, 300, 60])
    features, pool = (
        (np.eye(4, 20)[of] + 1e-3 * rng.normal(size=(len(of), 20))).astype(np.float32)
        for of in (targets, truth)
    )
    mixed = _fit(features, targets, pool)
    logits = mixed.layer.logits(pool)[:, [0, 1, 3]]
    assert mixed.mixture.damp < 0.1
    assert logits.std() == pytest.approx(40, rel=0.2)
    assert (mixed.layer.logits(pool).argmax(axis=1) == truth).all()
    assert (mixed.again(features, targets).logits(pool)[:, 2] == -1e4).all()


def test_few_labels_beside_the_features_leave_the_borders() -> None:
    shares = []
    for labels in (6, 60):
        features, targets, pool, _ = _world((labels,) * 4, (300, 300, 300, 60), width=200)
        mixed = _fit(features, targets, pool)
        ready = labels / (labels + 10)
        border = ready * (0.75 - 0.5 * mixed.mixture.plenty)
        known = mixed.space.known
        assert known == pytest.approx((1 - 200 / (200 + 4 * labels)) / 0.7)
        assert mixed.mixture.share == pytest.approx(1 - (1 - border) * known)
        shares.append(mixed.mixture.share)
    assert shares[0] > 0.8 > shares[1]
