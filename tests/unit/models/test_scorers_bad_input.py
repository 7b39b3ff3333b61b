"""What every scorer does with input that it cannot use: a right answer, or an error that says why.

What each needs it says itself (``needs``); that it refuses without it, and only then, is tested.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.errors import NoTailClass, NotEnoughLabels, ShapeError
from models.scorers import SCORERS
from models.scorers.needs import Needs
from models.types import ClassSpace, Examples, FloatArray, LabeledExamples
from tests.unit.models.scorer_worlds import (
    CLASSES,
    NAMES,
    POOL,
    TRUTH,
    fit,
    fitted,
    labels,
    order,
    with_logits,
)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _right_or_refused(
    name: str, labeled: LabeledExamples, classes: ClassSpace = CLASSES, pool: Examples = POOL
) -> None:
    """By what the scorer says that it needs it must refuse; else the queue must be whole."""
    needs = SCORERS[name].needs
    seen = np.bincount(labeled.targets, minlength=classes.size)
    own = labeled.examples.logits is not None
    if needs.lack_of_tail(classes):
        with pytest.raises(NoTailClass, match="in the tail"):
            fit(name, labeled, pool, classes)
    elif needs.lack_of_labels(seen, classes, own_head=own):
        with pytest.raises(NotEnoughLabels, match=r"label|class list"):
            fit(name, labeled, pool, classes)
    else:
        scorer = fit(name, labeled, pool, classes)
        assert set(order(scorer, pool).tolist()) == set(pool.ids.tolist())


def _without(examples: Examples) -> Examples:
    return examples.take(np.arange(0))


NO_TARGETS = np.empty(0, dtype=np.int64)


def test_needs_are_said_in_the_docstring(name: str) -> None:
    said = (SCORERS[name].__doc__ or "").lower()
    needs = SCORERS[name].needs
    assert "need" in said
    assert "original head" in said or not needs.original_head
    assert "label" in said or not (needs.classes or needs.tail_labels or needs.head_labels)
    assert "tail" in said or not needs.tail


def test_no_labels_at_all(name: str) -> None:
    _right_or_refused(name, LabeledExamples(_without(POOL), NO_TARGETS))


def test_no_labels_but_a_model_with_a_head(name: str) -> None:
    pool = with_logits(POOL)
    _right_or_refused(name, LabeledExamples(_without(pool), NO_TARGETS), pool=pool)


@pytest.mark.parametrize("counts", [(40, 0, 0, 0), (0, 0, 7, 0)])
def test_labels_of_one_class(name: str, counts: tuple[int, ...]) -> None:
    _right_or_refused(name, labels(counts))


@pytest.mark.parametrize("counts", [(40, 0, 0, 0), (0, 0, 7, 0)])
def test_labels_of_one_class_and_a_model_with_a_head(name: str, counts: tuple[int, ...]) -> None:
    labeled = labels(counts)
    labeled = replace(labeled, examples=with_logits(labeled.examples))
    _right_or_refused(name, labeled, pool=with_logits(POOL))


@pytest.mark.parametrize("counts", [(20, 20, 0, 0), (0, 0, 6, 6)])
def test_labels_of_the_head_only_or_of_the_tail_only(name: str, counts: tuple[int, ...]) -> None:
    _right_or_refused(name, labels(counts))


@pytest.mark.parametrize("tail", [(), (0, 1, 2, 3)])
def test_a_tail_of_no_class_or_of_all(name: str, tail: tuple[int, ...]) -> None:
    _right_or_refused(name, labels(), ClassSpace(CLASSES.names, tail))


@pytest.mark.parametrize("tail", [(-1,), (2, 4)])
def test_a_tail_outside_of_the_class_list(name: str, tail: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="tail classes"):
        fit(name, classes=ClassSpace(CLASSES.names, tail))


@pytest.mark.parametrize("tail", [(), (0,)])
@pytest.mark.parametrize("own_logits", [False, True])
def test_a_class_list_of_one(name: str, tail: tuple[int, ...], own_logits: bool) -> None:
    examples, pool = labels((30, 0, 0, 0)).examples, POOL
    if own_logits:
        examples, pool = with_logits(examples, 1), with_logits(pool, 1)
    labeled = LabeledExamples(examples, np.zeros(30, dtype=np.int64))
    _right_or_refused(name, labeled, ClassSpace(("only",), tail), pool)


@pytest.mark.parametrize("wrong", [-1, 4])
def test_labels_outside_of_the_class_list(name: str, wrong: int) -> None:
    labeled = labels()
    targets = labeled.targets.copy()
    targets[0] = wrong
    with pytest.raises(ShapeError, match=r"expected \[0, 4\)"):
        fit(name, replace(labeled, targets=targets))


def test_more_targets_than_examples(name: str) -> None:
    labeled = labels()
    with pytest.raises(ShapeError, match="targets"):
        fit(name, replace(labeled, targets=labeled.targets[1:]))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("half", [False, True])
def test_features_that_are_not_finite(name: str, wrong: float, half: bool) -> None:
    features = POOL.features.copy()
    features[3, 1] = wrong
    broken = Examples(POOL.ids, features.astype(np.float16) if half else features)
    with pytest.raises(ShapeError, match=f"NaN or infinite.*{POOL.ids[3]}"):
        order(fitted(name), broken, budget=5)
    with pytest.raises(ShapeError, match="NaN or infinite"):
        fit(name, LabeledExamples(broken, TRUTH))


def test_own_logits_that_are_not_finite(name: str) -> None:
    if not SCORERS[name].needs.original_head:
        pytest.skip("does not look at logits")
    pool = with_logits(POOL)
    assert pool.logits is not None
    labeled = labels()
    labeled = replace(labeled, examples=with_logits(labeled.examples))
    scorer = fit(name, labeled, pool)
    logits = pool.logits.copy()
    logits[5, 2] = np.nan
    with pytest.raises(ShapeError, match="logits"):
        order(scorer, Examples(pool.ids, pool.features, logits))


def test_own_logits_that_are_missing_or_of_other_classes(name: str) -> None:
    if not SCORERS[name].needs.original_head:
        pytest.skip("does not look at logits")
    labeled = labels()
    own = replace(labeled, examples=with_logits(labeled.examples))
    with pytest.raises(ShapeError, match="logits"):
        order(fit(name, own, with_logits(POOL)), POOL)
    with pytest.raises(ShapeError, match="logits"):
        fit(name, replace(labeled, examples=with_logits(labeled.examples, 3)))


def test_features_of_another_model(name: str) -> None:
    narrow = Examples(POOL.ids, np.ascontiguousarray(POOL.features[:, :3]))
    if name == "random":
        assert len(order(fitted(name), narrow)) == len(narrow)
        return
    with pytest.raises(ShapeError, match="another frozen model"):
        order(fitted(name), narrow)


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_features_that_do_not_vary(name: str, value: float) -> None:
    def constant(examples: Examples) -> Examples:
        features: FloatArray = np.full_like(examples.features, value)
        return Examples(examples.ids, features)

    labeled, pool = labels(), constant(POOL)
    scorer = fit(name, replace(labeled, examples=constant(labeled.examples)), pool)
    ids = order(scorer, pool)
    assert set(ids.tolist()) == set(pool.ids.tolist())
    turned = pool.take(np.random.default_rng(0).permutation(len(pool)))
    np.testing.assert_array_equal(order(scorer, turned), ids)


def test_a_feature_that_never_varies_among_the_labels(name: str) -> None:
    labeled = labels()
    features = labeled.examples.features.copy()
    features[:, 5] = 1.0
    scorer = fit(name, replace(labeled, examples=Examples(labeled.examples.ids, features)))
    assert len(order(scorer, POOL)) == len(POOL)


@pytest.mark.parametrize(
    ("needs", "own_head", "learns"),
    [
        (Needs(), False, False),
        (Needs(original_head=True), True, False),
        (Needs(original_head=True), False, True),
        (Needs(classes=1, original_head=True), True, True),
        (Needs(head_labels=True), True, True),
    ],
)
def test_whether_labels_are_needed_depends_on_the_model(
    needs: Needs, own_head: bool, learns: bool
) -> None:
    assert needs.learns(own_head=own_head) == learns
