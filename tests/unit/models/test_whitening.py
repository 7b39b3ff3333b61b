from __future__ import annotations

import numpy as np
import pytest

from models.errors import ShapeError
from models.types import Examples, FloatArray, IntArray, numbered
from models.whitening import FLOOR, Whitened

WIDTH = 24


def _world(
    shift: float = 0.0, labels: int = 900, seed: int = 0
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Three classes along two directions, stretched noise, a pool of five classes.

    Returns: (L, D) labels, their targets, and the pool's features.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(WIDTH, WIDTH)) * np.linspace(0.3, 2, WIDTH)
    centers = np.zeros((5, WIDTH))
    centers[:, :4] = 6 * rng.normal(size=(5, 4))
    targets = np.arange(labels) % 3
    truth = np.arange(3000) % 5
    features, pool = (
        (centers[of] + rng.normal(size=(len(of), WIDTH)) @ noise + shift).astype(np.float32)
        for of in (targets, truth)
    )
    return features, targets, pool


def test_a_class_has_unit_spread_and_the_pool_its_directions() -> None:
    features, targets, pool = _world(labels=20_000)
    space = Whitened.fit(features, targets, numbered(pool), num_classes=3)
    places = space.at(features)
    within = np.cov(
        (places - np.stack([places[targets == k].mean(0) for k in range(3)])[targets]).T
    )
    # Shrunk to a sphere by 0.3: about unit where the spread is not far below the usual one.
    assert np.linalg.eigvalsh(within).max() == pytest.approx(1.2, abs=0.25)
    over = space.at(pool)
    cover = np.cov(over.T)
    np.testing.assert_allclose(over.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(np.diag(cover), space.variance, rtol=1e-2)
    off = cover - np.diag(np.diag(cover))
    assert np.abs(off).max() < 1e-2 * space.variance[0]
    assert (np.diff(space.variance) <= 1e-9).all()
    # The classes differ in two directions of labels and four of the pool: the pool's are seen.
    assert 2 < np.count_nonzero(space.shown) <= 8
    assert (space.between >= FLOOR).all()


def test_a_layer_on_coordinates_is_one_on_features() -> None:
    features, targets, pool = _world()
    space = Whitened.fit(features, targets, numbered(pool), num_classes=3)
    rng = np.random.default_rng(1)
    for wide in (5, WIDTH):
        weight, bias = rng.normal(size=(wide, 3)), rng.normal(size=3)
        turned, moved = space.on_features(weight, bias)
        told = space.at(pool)[:, :wide] @ weight + bias
        np.testing.assert_allclose(pool @ turned + moved, told, rtol=1e-3, atol=1e-3)


def test_where_the_features_lie_does_not_matter() -> None:
    near, targets, pool = _world()
    far, _, other = _world(shift=1000.0)
    one = Whitened.fit(near, targets, numbered(pool), num_classes=3)
    two = Whitened.fit(far, targets, numbered(other), num_classes=3)
    np.testing.assert_allclose(two.variance, one.variance, rtol=2e-2, atol=1e-3)


@pytest.mark.parametrize("labels", [3, 6])
@pytest.mark.parametrize("same", [True, False])
def test_hardly_any_label_leaves_a_sphere(labels: int, same: bool) -> None:
    features, targets, pool = _world(labels=labels)
    if same:
        features[:] = features[0]
    space = Whitened.fit(features, targets, numbered(pool), num_classes=3)
    assert np.isfinite(space.axes).all()
    assert np.isfinite(space.at(pool)).all()


def test_no_pool_and_constant_features() -> None:
    features, targets, pool = _world()
    alone = Whitened.fit(features, targets, numbered(pool[:0]), num_classes=3)
    np.testing.assert_allclose(alone.at(features).mean(axis=0), 0, atol=1e-2)
    flat = Whitened.fit(np.ones((6, 3)), np.arange(6) % 3, numbered(np.ones((9, 3))), num_classes=3)
    np.testing.assert_array_equal(flat.at(np.ones((2, 3))), 0)
    assert not flat.shown.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pool_that_is_not_finite_is_named(bad: float) -> None:
    features, targets, pool = _world()
    pool = np.concatenate([pool] * 5)  # more than one batch
    pool[17, 3] = bad
    examples = Examples(np.arange(len(pool)) + 500, pool)
    with pytest.raises(ShapeError, match=r"1 examples are NaN or infinite \(ids \[517\]\)"):
        Whitened.fit(features, targets, examples, num_classes=3)
