from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.class_means import ClassMeans, remainder, trust
from models.class_shares import class_shares
from models.types import FloatArray, IntArray, numbered
from models.whitening import Whitened

WIDTH = 40


def _space(pool: FloatArray, labeled: FloatArray, targets: IntArray) -> Whitened:
    return Whitened.fit(labeled, targets, numbered(pool), num_classes=4)


def _world(shares: tuple[float, ...]) -> tuple[FloatArray, IntArray, FloatArray, FloatArray]:
    """Labels of three classes and a pool that also holds a fourth. Returns: and its centers."""
    rng = np.random.default_rng(0)
    centers = np.zeros((4, WIDTH))
    centers[np.arange(4), np.arange(4)] = 6
    targets = np.repeat([0, 1, 2], 200)
    truth = rng.choice(4, size=4000, p=shares)
    labeled, pool = (
        (centers[of] + rng.normal(size=(len(of), WIDTH))).astype(np.float32)
        for of in (targets, truth)
    )
    return labeled, targets, pool, centers


def _nowhere(means: NDArray[np.float64], counts: IntArray) -> NDArray[np.float64]:
    return np.zeros(WIDTH)


def test_a_mean_is_believed_where_the_pool_shows_something() -> None:
    labeled, targets, pool, _ = _world((0.3, 0.3, 0.3, 0.1))
    space = _space(pool, labeled, targets)
    for counts in (np.asarray([1]), np.asarray([4]), np.asarray([100])):
        belief = trust(space, counts)[0]
        expected = space.between / (space.between + 1 / counts[0])
        np.testing.assert_allclose(belief, expected)
        assert belief[0] > belief[-1]
    assert trust(space, np.asarray([0]))[0].max() < 0.05
    assert trust(space, np.asarray([10**6]))[0].min() > 0.99


def test_means_of_many_labels_are_the_labels_own() -> None:
    labeled, targets, pool, _ = _world((0.3, 0.3, 0.3, 0.1))
    space = _space(pool, labeled, targets)
    places = space.at(labeled)
    means = ClassMeans.fit(places, targets, space, num_classes=4, tail=(3,), expected=_nowhere)
    assert means.counts.tolist() == [200, 200, 200, 0]
    for k in range(3):
        own = places[targets == k].mean(axis=0)
        believed = own * trust(space, np.asarray([200]))[0]
        np.testing.assert_allclose(means.means[k], believed, rtol=1e-4, atol=1e-6)
    assert not means.means[3].any()


def test_the_layer_is_the_log_density_of_unit_gaussians() -> None:
    labeled, targets, pool, _ = _world((0.3, 0.3, 0.3, 0.1))
    space = _space(pool, labeled, targets)
    places = space.at(labeled)
    means = ClassMeans.fit(places, targets, space, num_classes=4, tail=(), expected=_nowhere)
    weight, bias = means.layer(np.asarray([0, 2]))
    squares = [-0.5 * ((places - means.means[k]) ** 2).sum(axis=1) for k in (0, 2)]
    odds = places @ weight + bias
    np.testing.assert_allclose(odds[:, 1] - odds[:, 0], squares[1] - squares[0], rtol=1e-3)


def test_what_is_left_of_the_pool_is_where_the_missing_class_lies() -> None:
    labeled, targets, pool, centers = _world((0.3, 0.25, 0.25, 0.2))
    space = _space(pool, labeled, targets)
    places = space.at(labeled)
    known = ClassMeans.fit(places, targets, space, num_classes=4, tail=(3,), expected=_nowhere)
    found = remainder(known.means[:3], known.counts[:3], numbered(pool), space)
    truth = space.at(centers.astype(np.float32))[3]
    cosine = found @ truth / np.linalg.norm(found) / np.linalg.norm(truth)
    assert cosine > 0.9
    usual = np.median(np.linalg.norm(known.means[:3], axis=1))
    assert np.linalg.norm(found) == pytest.approx(usual)


def test_nothing_is_left_where_nothing_is_known() -> None:
    labeled, targets, pool, _ = _world((0.4, 0.3, 0.3, 0.0))
    space = _space(pool, labeled, targets)
    assert not remainder(np.zeros((0, WIDTH)), np.zeros(0, dtype=int), numbered(pool), space).any()
    some = np.ones((1, WIDTH))
    assert not remainder(some, np.asarray([5]), numbered(pool[:0]), space).any()


def test_a_tail_class_is_drawn_to_what_is_expected() -> None:
    labeled, targets, pool, _ = _world((0.3, 0.3, 0.3, 0.1))
    space = _space(pool, labeled, targets)
    place = np.full(WIDTH, 2.0)
    one = space.at(pool[:1])
    means = ClassMeans.fit(
        np.concatenate([space.at(labeled), one]),
        np.append(targets, 3),
        space,
        num_classes=4,
        tail=(3,),
        expected=lambda means, counts: place,
    )
    belief = trust(space, np.asarray([1]))[0]
    np.testing.assert_allclose(means.means[3], place + belief * (one[0] - place), rtol=1e-5)
    np.testing.assert_array_equal(means.expected, place)


def test_shares_of_a_pool_are_found() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(3, size=20_000, p=[0.7, 0.28, 0.02])
    centers = 3 * np.eye(3)
    x = centers[truth] + rng.normal(size=(len(truth), 3))
    logits = x @ centers.T - 0.5 * (centers**2).sum(axis=1)
    found = class_shares(logits, np.full(3, 1 / 3), rounds=200)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, [0.7, 0.28, 0.02], atol=0.01)
    # A class that nothing was said to be there of is never found.
    assert class_shares(logits, np.asarray([0.5, 0.5, 0]))[2] == 0


def test_shares_do_not_break_on_logits_far_apart() -> None:
    logits = np.asarray([[0.0, -1e4], [-1e4, 0.0], [0.0, -1e4], [0.0, -1e4]])
    np.testing.assert_allclose(
        class_shares(logits, np.asarray([0.5, 0.5])), [0.75, 0.25], atol=1e-6
    )
