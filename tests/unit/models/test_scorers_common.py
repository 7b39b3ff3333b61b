"""One suite over every scorer of the table."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import MinerConfig
from models.errors import NoTailClass, NotEnoughLabels, ShapeError
from models.scorers import SCORERS, StoredScorer
from models.types import ClassSpace, Examples, IntArray, LabeledExamples

CONFIG = MinerConfig(autoencoder_steps=200, members=2)
CLASSES = ClassSpace(("a", "b", "c", "d"), tail=(2, 3))
LEARNING = sorted(
    name
    for name, scorer in SCORERS.items()
    if scorer.needs.classes >= 2 or scorer.needs.original_head
)


def _world(counts: tuple[int, ...], seed: int, first_id: int) -> tuple[Examples, IntArray]:
    """Four clouds in six dimensions; the logits lean to the right class."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.repeat(np.arange(4), counts))
    features = rng.normal(size=(len(targets), 6))
    features[:, :4] += 3.0 * np.eye(4)[targets]
    ids = rng.permutation(len(targets)) + first_id
    return Examples(ids.astype(np.int64), features.astype(np.float32)), targets


def _labeled(counts: tuple[int, ...] = (40, 40, 5, 5)) -> LabeledExamples:
    return LabeledExamples(*_world(counts, 0, 0))


POOL, TRUTH = _world((60, 60, 8, 8), 1, 1000)


@pytest.fixture(params=sorted(SCORERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _fit(name: str, labeled: LabeledExamples | None = None) -> StoredScorer:
    return SCORERS[name](CONFIG).fit(labeled or _labeled(), POOL, classes=CLASSES, seed=0)


def test_each_id_once_and_as_many_as_asked_for(name: str) -> None:
    scorer = _fit(name)
    for budget in (0, 1, 25, len(POOL), len(POOL) + 50):
        queue = scorer.rank(POOL, budget=budget, seed=0)
        assert len(queue.ids) == len(set(queue.ids.tolist())) == min(budget, len(POOL))
        assert set(queue.ids.tolist()) <= set(POOL.ids.tolist())
        assert len(queue.reasons) == len(queue.ids)
        assert all(queue.reasons)


def test_an_empty_pool_gives_an_empty_queue(name: str) -> None:
    assert len(_fit(name).rank(POOL.take(np.arange(0)), budget=5, seed=0).ids) == 0


def test_a_shorter_queue_is_the_head_of_a_longer_one(name: str) -> None:
    scorer = _fit(name)
    long = scorer.rank(POOL, budget=40, seed=0).ids
    np.testing.assert_array_equal(scorer.rank(POOL, budget=10, seed=0).ids, long[:10])


def test_the_same_seed_gives_the_same_queue(name: str) -> None:
    first, again = (_fit(name).rank(POOL, budget=30, seed=2) for _ in range(2))
    np.testing.assert_array_equal(first.ids, again.ids)
    assert first.reasons == again.reasons


def test_the_order_of_the_pool_does_not_matter(name: str) -> None:
    scorer = _fit(name)
    turned = POOL.take(np.arange(len(POOL))[::-1].copy())
    np.testing.assert_array_equal(
        scorer.rank(POOL, budget=20, seed=0).ids, scorer.rank(turned, budget=20, seed=0).ids
    )


def test_what_is_stored_orders_alike(name: str) -> None:
    scorer = _fit(name)
    restored = SCORERS[name](CONFIG).restore(scorer.state(), classes=CLASSES)
    found = restored.rank(POOL, budget=5, seed=0).ids
    np.testing.assert_array_equal(found, scorer.rank(POOL, budget=5, seed=0).ids)


@pytest.mark.parametrize("rare", [0, 1])
def test_a_class_with_hardly_a_label(name: str, rare: int) -> None:
    queue = _fit(name, _labeled((40, 40, rare, 5))).rank(POOL, budget=20, seed=0)
    assert len(queue.ids) == 20


def test_original_logits_are_taken_where_they_are(name: str) -> None:
    labeled = _labeled()
    logits = labeled.examples.features[:, :4]
    with_head = Examples(labeled.examples.ids, labeled.examples.features, logits)
    pool = Examples(POOL.ids, POOL.features, POOL.features[:, :4])
    scorer = _fit(name, LabeledExamples(with_head, labeled.targets))
    assert len(scorer.rank(pool, budget=10, seed=0).ids) == 10


def test_features_that_are_not_finite_are_refused(name: str) -> None:
    features = POOL.features.copy()
    features[3, 1] = np.nan
    broken = Examples(POOL.ids, features)
    with pytest.raises(ShapeError, match="NaN"):
        _fit(name).rank(broken, budget=5, seed=0)
    with pytest.raises(ShapeError, match="NaN"):
        _fit(name, LabeledExamples(broken, TRUTH))


@pytest.mark.parametrize("wrong", [-1, 4])
def test_labels_outside_the_classes_are_refused(name: str, wrong: int) -> None:
    labeled = _labeled()
    targets = labeled.targets.copy()
    targets[0] = wrong
    with pytest.raises(ShapeError, match="expected"):
        _fit(name, LabeledExamples(labeled.examples, targets))


@pytest.mark.parametrize("learner", LEARNING)
def test_labels_of_one_class_teach_nothing(learner: str) -> None:
    with pytest.raises(NotEnoughLabels):
        _fit(learner, _labeled((40, 0, 0, 0)))


@pytest.mark.parametrize("miner", ["rarefirst", "tail_mass"])
def test_without_a_tail_there_is_nothing_to_mine(miner: str) -> None:
    with pytest.raises(NoTailClass):
        SCORERS[miner](CONFIG).fit(_labeled(), POOL, classes=ClassSpace(CLASSES.names), seed=0)


@pytest.mark.parametrize("miner", ["rarefirst", "tail_mass"])
def test_miners_find_what_random_order_does_not(miner: str) -> None:
    queue = _fit(miner).rank(POOL, budget=16, seed=0)
    truth = dict(zip(POOL.ids.tolist(), TRUTH.tolist(), strict=True))
    found = sum(truth[i] in CLASSES.tail for i in queue.ids.tolist())
    # 16 of 136 are rare: random order finds 1.9 on average.
    assert found >= 10
