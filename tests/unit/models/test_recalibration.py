from __future__ import annotations

import math

import numpy as np
import pytest

from models.autoencoder import softmax
from models.config import RecalibrationConfig
from models.errors import NotEnoughLabels, ShapeError
from models.recalibration import RecalibrationLayer
from models.types import FloatArray, IntArray

FORMS = ("regularised", "paper", "released")


def _two_clouds(count: int = 200, seed: int = 0) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    features = rng.normal(size=(count, 2)) + 6 * targets[:, None]
    return features.astype(np.float32), targets


@pytest.mark.parametrize("form", FORMS)
def test_separable_features_are_separated(form: str) -> None:
    features, targets = _two_clouds()
    layer = RecalibrationLayer.fit(
        features,
        targets,
        num_classes=2,
        config=RecalibrationConfig.model_validate({"form": form, "min_steps": 3000}),
    )
    assert (layer.logits(features).argmax(axis=1) == targets).mean() > 0.99


@pytest.mark.parametrize("form", FORMS)
def test_the_same_seed_gives_the_same_layer(form: str) -> None:
    features, targets = _two_clouds()
    config = RecalibrationConfig.model_validate({"form": form, "min_steps": 30})
    first, again = (
        RecalibrationLayer.fit(features, targets, num_classes=3, config=config, seed=4)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.weight, again.weight)
    restored = RecalibrationLayer.from_state(first.state())
    np.testing.assert_array_equal(restored.logits(features), first.logits(features))


@pytest.mark.parametrize("form", FORMS)
def test_an_absent_class_is_trained_as_a_negative(form: str) -> None:
    features, targets = _two_clouds()
    config = RecalibrationConfig.model_validate({"form": form, "min_steps": 1000})
    layer = RecalibrationLayer.fit(features, targets, num_classes=3, config=config)
    probabilities = softmax(layer.logits(features))
    assert np.isfinite(probabilities).all()
    assert probabilities[:, 2].mean() < 0.2


def test_the_regularised_solution_is_stationary() -> None:
    """Plain cross-entropy without standardisation's help: compare with scikit-learn's optimum."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 4))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    targets = (features[:, 0] + rng.normal(size=300) > 0).astype(np.int64) + (features[:, 1] > 1)
    config = RecalibrationConfig(gamma=0.0, balanced=False, l2=0.1, iterations=200)
    layer = RecalibrationLayer.fit(features, targets, num_classes=3, config=config)
    oracle = LogisticRegression(C=1 / (0.1 * 300), tol=1e-8, max_iter=1000).fit(features, targets)
    np.testing.assert_allclose(
        softmax(layer.logits(features)), oracle.predict_proba(features), atol=2e-3
    )


def test_balance_lifts_the_rare_class() -> None:
    rng = np.random.default_rng(0)
    targets = (np.arange(400) < 8).astype(np.int64)
    features = (rng.normal(size=(400, 3)) + 1.5 * targets[:, None]).astype(np.float32)

    def mean_rare(balanced: bool) -> float:
        config = RecalibrationConfig(balanced=balanced)
        layer = RecalibrationLayer.fit(features, targets, num_classes=2, config=config)
        return float(softmax(layer.logits(features))[targets == 1, 1].mean())

    assert mean_rare(True) > mean_rare(False) + 0.2


def test_a_feature_that_hardly_varies_is_not_blown_up() -> None:
    features, targets = _two_clouds()
    features = np.c_[features, np.full(len(features), 3.0, dtype=np.float32)]
    layer = RecalibrationLayer.fit(features, targets, num_classes=2)
    assert math.isfinite(float(np.abs(layer.weight).max()))
    assert np.abs(layer.weight[2]).max() < 1e-6


def test_what_cannot_be_learned_is_refused() -> None:
    features, targets = _two_clouds(20)
    with pytest.raises(NotEnoughLabels, match="one class"):
        RecalibrationLayer.fit(features, np.zeros(20, dtype=np.int64), num_classes=2)
    with pytest.raises(ShapeError):
        RecalibrationLayer.fit(features[:5], targets, num_classes=2)
    with pytest.raises(ShapeError):
        RecalibrationLayer.fit(features, targets + 5, num_classes=2)
