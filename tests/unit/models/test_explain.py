"""Why examples are taken for rare: likeness, tail mass, reconstruction error."""

from __future__ import annotations

import numpy as np
import pytest

from models.errors import ShapeError
from models.recipes.explain import explain
from models.recipes.fit_miner import Miner, fit_miner
from models.tasks.base import LabeledTexts
from models.types import ClassSpace, Examples, LabeledExamples, numbered
from models.why_rare import nearest_known
from tests.unit.models.test_fit_miner import CONFIG, NAMES, _fit, _labeled, _pool

COUNTS = (30, 30, 4)


def known(labeled: LabeledExamples) -> LabeledTexts:
    return LabeledTexts(labeled.examples, tuple(NAMES[k] for k in labeled.targets))


def test_what_is_rare_lies_near_rare_labels_and_errs_most() -> None:
    pool, miner = _pool(), _fit(COUNTS)
    said = explain(miner, pool, known(_labeled(COUNTS)))
    assert len(said) == 60
    for one in said:
        assert {near.id for near in one.nearest} <= set(range(60, 64)), "labels of the tail only"
        assert len(one.nearest) == 3
        apart = [near.distance for near in one.nearest]
        assert apart == sorted(apart)
    rare, common = said[52:], said[:52]
    mean = {
        name: (
            np.mean([getattr(one, name) for one in rare]),
            np.mean([getattr(one, name) for one in common]),
        )
        for name in ("tail_mass", "error", "error_above")
    }
    assert all(ours > 2 * theirs for ours, theirs in mean.values())
    assert np.mean([one.nearest[0].distance for one in rare]) < 1.2
    assert np.mean([one.nearest[0].distance for one in common]) > 1.3
    judge, head = miner.tail_judge, miner.original_head
    assert judge is not None
    assert head is not None
    assert [one.error for one in said] == judge.reconstruction_error(pool).tolist()
    (start, shares), *_ = head.batches(pool)
    assert start == 0
    assert [one.tail_mass for one in said] == pytest.approx(shares[2].tolist())


@pytest.mark.parametrize(
    ("scorer", "error", "above"),
    [("paper", True, False), ("entropy", True, True), ("diversity", True, True)],
)
def test_any_scorers_queue_can_be_explained(scorer: str, error: bool, above: bool) -> None:
    config = CONFIG.model_copy(update={"scorer": scorer})
    (one,) = explain(
        _fit(COUNTS, config=config), _pool().take(np.asarray([55])), known(_labeled(COUNTS))
    )
    assert (one.error is not None, one.error_above is not None) == (error, above)
    assert one.tail_mass is not None
    assert one.nearest


def test_without_a_tail_or_labels_little_is_said() -> None:
    (one, *_) = explain(_fit(COUNTS, tail=()), _pool(), known(_labeled(COUNTS)))
    assert (one.tail_mass, one.error, one.nearest) == (None, None, ())
    nothing = LabeledExamples(
        Examples(np.arange(0), np.empty((0, 5), np.float32)), np.empty(0, dtype=np.int64)
    )
    bare: Miner = fit_miner(
        nothing, _pool(), classes=ClassSpace(NAMES, (2,)), config=CONFIG, seed=0
    )
    (one, *_) = explain(bare, _pool(), known(nothing))
    assert (one.tail_mass, one.error, one.nearest) == (None, None, ())
    assert explain(_fit(COUNTS), _pool().take(np.arange(0)), known(nothing)) == ()


def test_features_of_another_model_are_refused() -> None:
    other = numbered(np.zeros((2, 7), dtype=np.float32))
    with pytest.raises(ShapeError, match="embed the images again"):
        explain(_fit(COUNTS), _pool(), LabeledTexts(other, ("c", "c")))


def test_distances_are_counted_in_what_two_of_a_class_are_apart() -> None:
    places = np.asarray([[0.0], [2.0], [10.0]], dtype=np.float32)
    tasks = np.asarray([7, 8, 9])
    (near,) = nearest_known(
        numbered(np.asarray([[1.0]])),
        numbered(places),
        np.asarray([4, 4, 5]),
        tasks=tasks,
        count=3,
    )
    assert [(one.id, one.target, one.distance) for one in near] == [
        (7, 4, 0.5),
        (8, 4, 0.5),
        (9, 5, None),
    ]


def test_a_task_is_named_once_with_its_nearest() -> None:
    (near,) = nearest_known(
        numbered(np.asarray([[1.0]])),
        numbered(np.asarray([[1.5], [3.0], [9.0], [40.0]])),
        np.zeros(4, dtype=np.int64),
        tasks=np.asarray([7, 7, 8, 9]),
        count=2,
    )
    assert [one.id for one in near] == [7, 8]


def test_an_exact_copy_is_no_distance_away() -> None:
    features = np.random.default_rng(0).normal(size=(20, 512)).astype(np.float16) * 30
    found = nearest_known(
        numbered(features), numbered(features), np.zeros(20, int), tasks=np.arange(20), count=1
    )
    assert [near[0].distance for near in found] == [0.0] * 20
    assert [near[0].id for near in found] == list(range(20))
