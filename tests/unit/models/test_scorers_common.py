"""What every scorer of the table promises: one suite over all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.scorers import SCORERS
from models.types import ClassSpace, Examples, LabeledExamples
from tests.unit.models.scorer_worlds import (
    CLASSES,
    CONFIG,
    NAMES,
    POOL,
    QUICK,
    TRUTH,
    cloud,
    fit,
    fitted,
    labels,
    order,
    with_logits,
)

# Those that tell the four clouds' tail from their head, each with what it looks at.
FINDERS = {
    "rarefirst", "tail_mass", "tail_mass_adjusted", "tail_mass_rc", "tail_mass_paper_rc",
    "mahalanobis", "knn_distance",
}  # fmt: skip


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_id_once_and_as_many_as_asked_for(name: str) -> None:
    for budget in (-3, 0, 1, 25, len(POOL), len(POOL) + 50):
        queue = fitted(name).rank(POOL, budget=budget, seed=0)
        ids = queue.ids.tolist()
        assert len(ids) == len(set(ids)) == max(0, min(budget, len(POOL)))
        assert set(ids) <= set(POOL.ids.tolist())
        assert len(queue.reasons) == len(ids)
        assert all(queue.reasons)


def test_an_empty_pool_gives_an_empty_queue(name: str) -> None:
    assert len(order(fitted(name), POOL.take(np.arange(0)))) == 0


def test_a_pool_of_one(name: str) -> None:
    assert order(fitted(name), POOL.take(np.asarray([4]))).tolist() == [POOL.ids[4]]


def test_it_may_be_fitted_before_there_is_a_pool(name: str) -> None:
    scorer = fit(name, pool=POOL.take(np.arange(0)))
    assert set(order(scorer, POOL).tolist()) == set(POOL.ids.tolist())


@pytest.mark.parametrize("seed", [0, 7])
def test_a_shorter_queue_is_the_head_of_a_longer_one(name: str, seed: int) -> None:
    whole = fitted(name).rank(POOL, budget=len(POOL), seed=seed)
    for budget in (1, 2, 10, 51, len(POOL) - 1):
        part = fitted(name).rank(POOL, budget=budget, seed=seed)
        np.testing.assert_array_equal(part.ids, whole.ids[:budget])
        assert part.reasons == whole.reasons[:budget]


def test_the_same_seed_gives_the_same_queue(name: str) -> None:
    first, again = (s.rank(POOL, budget=200, seed=2) for s in (fitted(name), fit(name)))
    np.testing.assert_array_equal(first.ids, again.ids)
    assert first.reasons == again.reasons


def test_the_order_of_the_pool_does_not_matter(name: str) -> None:
    whole = order(fitted(name), POOL)
    for seed in range(2):
        turned = POOL.take(np.random.default_rng(seed).permutation(len(POOL)))
        np.testing.assert_array_equal(order(fitted(name), turned), whole)


def test_copies_of_an_example_are_ties_and_go_by_id(name: str) -> None:
    # Each row thrice, far apart: what is computed of it must not depend on where it stands.
    thrice = np.concatenate([np.random.default_rng(s).permutation(len(POOL)) for s in range(3)])
    copies = Examples(np.random.default_rng(3).permutation(len(thrice)), POOL.features[thrice])
    turned = copies.take(np.random.default_rng(4).permutation(len(copies)))
    np.testing.assert_array_equal(order(fitted(name), copies), order(fitted(name), turned))


def test_what_is_stored_orders_alike(name: str) -> None:
    scorer = fitted(name)
    stored = {key: np.ascontiguousarray(value) for key, value in scorer.state().items()}
    restored = SCORERS[name](CONFIG).restore(stored, classes=CLASSES)
    for seed in (0, 5):
        was, found = (s.rank(POOL, budget=500, seed=seed) for s in (scorer, restored))
        np.testing.assert_array_equal(found.ids, was.ids)
        assert found.reasons == was.reasons


def test_what_is_stored_orders_alike_with_own_logits_too(name: str) -> None:
    labeled = labels()
    labeled = LabeledExamples(with_logits(labeled.examples), labeled.targets)
    pool = with_logits(POOL)
    scorer = fit(name, labeled, pool)
    restored = SCORERS[name](CONFIG).restore(scorer.state(), classes=CLASSES)
    was = order(scorer, pool)
    assert len(was) == len(pool)
    np.testing.assert_array_equal(order(restored, pool), was)


def test_half_precision_views_order_like_arrays_of_their_own(name: str) -> None:
    half = Examples(POOL.ids, POOL.features.astype(np.float16))
    rng = np.random.default_rng(0)
    places = np.sort(rng.choice(3 * len(half), len(half), replace=False))
    cache = rng.normal(size=(3 * len(half), 6)).astype(np.float16)
    cache[places] = half.features
    cache.flags.writeable = False
    view = Examples(np.arange(3 * len(half)), cache).take(places)
    view = Examples(half.ids, view.features, at=view.at)
    np.testing.assert_array_equal(order(fitted(name), view), order(fitted(name), half))
    some = rng.choice(len(half), 40, replace=False)
    np.testing.assert_array_equal(
        order(fitted(name), view.take(some)), order(fitted(name), half.take(some).dense())
    )


def test_it_is_fitted_alike_on_half_precision_views(name: str) -> None:
    labeled = labels()
    half = Examples(labeled.examples.ids, labeled.examples.features.astype(np.float16))
    turned = np.arange(len(half))[::-1].copy()
    view = Examples(half.ids[::-1], half.features[::-1].copy()).take(turned)
    of_view = fit(name, LabeledExamples(view, labeled.targets))
    np.testing.assert_array_equal(
        order(of_view, POOL), order(fit(name, LabeledExamples(half, labeled.targets)), POOL)
    )


def test_nothing_is_written_into_the_features(name: str) -> None:
    labeled = labels()
    for array in (labeled.examples.features, POOL.features):
        array.flags.writeable = False
    try:
        before = POOL.features.copy()
        assert len(order(fit(name, labeled), POOL)) == len(POOL)
        np.testing.assert_array_equal(POOL.features, before)
    finally:
        POOL.features.flags.writeable = True


@pytest.mark.parametrize("rare", [0, 1])
def test_a_class_with_hardly_a_label(name: str, rare: int) -> None:
    assert len(order(fit(name, labels((40, 40, rare, 5))), POOL)) == len(POOL)


@pytest.mark.parametrize("own_logits", [False, True])
def test_two_classes(name: str, own_logits: bool) -> None:
    features, targets = cloud(60, 2, 5)
    rows = np.concatenate([np.flatnonzero(targets == 0), np.flatnonzero(targets == 1)[:4]])
    labeled = Examples(rows, features[rows])
    pool = Examples(np.arange(50) + 100, cloud(50, 2, 5, first_id=100)[0])
    if own_logits:
        labeled, pool = with_logits(labeled, 2), with_logits(pool, 2)
    scorer = fit(name, LabeledExamples(labeled, targets[rows]), pool, ClassSpace(("a", "b"), (1,)))
    assert set(order(scorer, pool).tolist()) == set(pool.ids.tolist())


@pytest.mark.parametrize("own_logits", [False, True])
def test_a_thousand_classes_and_a_few_rows(name: str, own_logits: bool) -> None:
    if own_logits and not SCORERS[name].needs.original_head:
        pytest.skip("does not look at logits")
    features, targets = cloud(40, 1000, 5)
    classes = ClassSpace(tuple(map(str, range(1000))), tuple(range(30, 1000)))
    labeled = Examples(np.arange(40), features)
    pool = Examples(np.arange(30) + 100, cloud(30, 1000, 5, first_id=100)[0])
    if own_logits:
        rng = np.random.default_rng(0)
        labeled, pool = (
            Examples(e.ids, e.features, rng.normal(size=(len(e), 1000)).astype(np.float32))
            for e in (labeled, pool)
        )
    scorer = fit(name, LabeledExamples(labeled, targets), pool, classes, QUICK)
    assert set(order(scorer, pool).tolist()) == set(pool.ids.tolist())


def test_finders_find_what_random_order_does_not() -> None:
    truth = dict(zip(POOL.ids.tolist(), TRUTH.tolist(), strict=True))
    found = {
        name: sum(truth[i] in CLASSES.tail for i in order(fitted(name), POOL, budget=16).tolist())
        for name in sorted(FINDERS)
    }
    # 16 of 136 are rare: random order finds 1.9 on average.
    assert min(found.values()) >= 8, found


def _peak() -> int:
    # Not getrusage: its peak is that of the whole process's life.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_the_pool_is_not_copied_as_a_whole(name: str) -> None:
    rng = np.random.default_rng(0)
    some: NDArray[np.float16] = rng.normal(size=(500, 512)).astype(np.float16)
    targets = np.repeat([0, 1, 2, 3], [30, 30, 5, 5])
    labeled = LabeledExamples(Examples(np.arange(70), some[:70]), targets)
    scorer = fit(name, labeled, Examples(np.arange(500), some), config=QUICK)
    features: NDArray[np.float16] = np.empty((50_000, 512), dtype=np.float16)
    for start in range(0, len(features), 500):
        # Of many lengths: near ties are not what is looked at here.
        features[start : start + 500] = np.roll(some, start // 500, axis=1) * rng.random((500, 1))
    pool = Examples(np.arange(len(features)), features)
    scorer.rank(pool.slice(0, 5000), budget=20, seed=0)  # buffers of the libraries come first
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak()
    scorer.rank(pool, budget=20, seed=0)
    # A copy in single precision would be 2, a copy of the rows 1.
    assert (_peak() - before) / features.nbytes < 0.7
