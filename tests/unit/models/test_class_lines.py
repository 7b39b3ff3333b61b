"""GALAXY and DIRECT: the lines, and what both promise of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from models.config import MinerConfig
from models.errors import ShapeError
from models.label_head import LabelHead
from models.scorers import SCORERS
from models.scorers.class_lines import ClassLines, ClassLineScorer, line_margins, line_order
from models.scorers.direct import Direct
from models.scorers.galaxy import Galaxy
from models.types import AsksAsItGoes, ClassSpace, Examples, FloatArray, IntArray, LabeledExamples

CONFIG = MinerConfig()
CLASSES = ClassSpace(("a", "b", "c", "d"), tail=(2, 3))


def _with_logits(first_id: int, logits: FloatArray) -> Examples:
    ids = np.arange(first_id, first_id + len(logits), dtype=np.int64)
    return Examples(ids, np.zeros((len(ids), 1), dtype=np.float32), logits.astype(np.float32))


def _world(rng: np.random.Generator, counts: tuple[int, ...]) -> tuple[FloatArray, IntArray]:
    """Logits that lean to the right class, and targets."""
    targets = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    return rng.normal(size=(len(targets), len(counts))) + 2 * np.eye(len(counts))[targets], targets


class _Oracle:
    """Answers from stored targets and notes what was asked."""

    def __init__(self, pool: Examples, targets: IntArray) -> None:
        self.target_of = dict(zip(pool.ids.tolist(), targets.tolist(), strict=True))
        self.asked: list[list[int]] = []

    def __call__(self, ids: IntArray) -> IntArray:
        self.asked.append(ids.tolist())
        return np.asarray([self.target_of[i] for i in ids.tolist()], dtype=np.int64)


def _fitted(
    scorer: type[ClassLineScorer], config: MinerConfig = CONFIG
) -> tuple[ClassLineScorer, Examples, _Oracle]:
    rng = np.random.default_rng(0)
    logits, targets = _world(rng, (40, 40, 6, 6))
    labeled = LabeledExamples(_with_logits(0, logits), targets)
    logits, truth = _world(rng, (150, 150, 12, 12))
    pool = _with_logits(1000, logits)
    fitted = scorer(config).fit(labeled, pool, classes=CLASSES, seed=0)
    return fitted, pool, _Oracle(pool, truth)


@pytest.fixture(params=[Galaxy, Direct])
def scorer(request: pytest.FixtureRequest) -> type[ClassLineScorer]:
    found: type[ClassLineScorer] = request.param
    return found


def test_margins_by_hand() -> None:
    p = np.asarray([[0.9, 0.05, 0.05], [0.6, 0.3, 0.1], [0.4, 0.45, 0.15], [0.1, 0.8, 0.1]])
    margins, _ = line_margins(np.log(p[:, 0]), p.max(axis=1))
    assert margins == pytest.approx([9e-9, 6e-9, -0.05, -0.7], abs=1e-8)
    assert margins[:2] == pytest.approx([9e-9, 6e-9], rel=1e-6)
    order = line_order(np.log(p[:, 0]), p.max(axis=1), np.asarray([4, 3, 2, 1]))
    assert order.tolist() == [0, 1, 2, 3]


def _order(logits: FloatArray, number: int = 0, ids: IntArray | None = None) -> list[int]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = (shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))).astype(np.float32)
    ids = np.arange(len(logs)) if ids is None else ids
    targets = np.full(len(logs), -1, dtype=np.int64)
    return ClassLines(ids, logs, targets, of=tuple(range(logs.shape[1]))).order(number).tolist()


def test_saturated_probabilities_keep_their_order() -> None:
    # Winners at p = 1 but for 1e-17 to 1e-43, losers at p = 1e-22 to 1e-43 behind a sure winner.
    logits = np.asarray([[60.0, 0, 0], [99, 0, 0], [40, 0, 0], [0, 99, 0], [0, 50, 0], [0, 70, 0]])
    assert _order(logits) == [1, 0, 2, 4, 5, 3]


def test_ties_on_a_line_go_by_id() -> None:
    assert _order(np.zeros((4, 3)), ids=np.asarray([7, 3, 9, 1])) == [3, 1, 0, 2]


def test_two_classes_have_one_line_by_probability() -> None:
    rng = np.random.default_rng(0)
    logits, targets = _world(rng, (10, 10))
    pool = _with_logits(100, rng.normal(size=(30, 2)) * 9)
    fitted = Galaxy(CONFIG).fit(
        LabeledExamples(_with_logits(0, logits), targets),
        pool,
        classes=ClassSpace(("a", "b"), tail=(0,)),
        seed=0,
    )
    lines = fitted.lines(pool)
    assert lines.of == (1,)
    both = np.concatenate([logits, np.asarray(pool.logits)])
    lead = both[:, 1] - both[:, 0]
    assert lines.order(0).tolist() == np.argsort(-lead).tolist()


def test_the_lines_of_the_tail_only() -> None:
    fitted, pool, _ = _fitted(Galaxy, MinerConfig(class_lines="tail"))
    assert fitted.lines(pool).of == (2, 3)
    queue = fitted.rank(pool, budget=10, seed=0)
    assert {reason.split()[-1] for reason in queue.reasons} == {"c", "d"}


def test_signs_say_which_labels_are_of_the_class() -> None:
    logs = np.log(np.asarray([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1], [0.4, 0.6]], dtype=np.float32))
    lines = ClassLines(np.arange(4), logs, np.asarray([1, -1, 0, -1]), of=(0, 1))
    assert lines.order(0).tolist() == [2, 1, 3, 0]
    assert lines.signs(0).tolist() == [1, 0, 0, -1]
    assert lines.places(0).tolist() == [3, 1, 0, 2]
    assert lines.labels().tolist() == [1, 1]
    lines.tell(np.asarray([3]), np.asarray([1]))
    assert lines.signs(0).tolist() == [1, 0, -1, -1]


@pytest.mark.parametrize("answer", [[4], [-1], [0, 1]])
def test_answers_that_are_no_class_are_refused(
    scorer: type[ClassLineScorer], answer: list[int]
) -> None:
    fitted, pool, _ = _fitted(scorer)
    with pytest.raises(ShapeError, match="expected"):
        fitted.ask(pool, lambda ids: np.asarray(answer), budget=1, seed=0)


@pytest.mark.parametrize("budget", [0, 1, 3, 7, 50, 324, 400])
def test_what_is_asked_is_each_id_once(scorer: type[ClassLineScorer], budget: int) -> None:
    fitted, pool, oracle = _fitted(scorer)
    assert isinstance(fitted, AsksAsItGoes)
    queue = fitted.ask(pool, oracle, budget=budget, seed=0)
    assert len(queue.ids) == len(set(queue.ids.tolist())) == min(budget, len(pool))
    assert set(queue.ids.tolist()) <= set(pool.ids.tolist())
    assert len(queue.reasons) == len(queue.ids)
    assert [i for some in oracle.asked for i in some] == queue.ids.tolist()


def test_asking_again_asks_the_same(scorer: type[ClassLineScorer]) -> None:
    fitted, pool, oracle = _fitted(scorer)
    first = fitted.ask(pool, oracle, budget=80, seed=3)
    restored = scorer(CONFIG).restore(fitted.state(), classes=CLASSES)
    turned = pool.take(np.arange(len(pool))[::-1].copy())
    for again in (
        fitted.ask(pool, oracle, budget=80, seed=3),
        restored.ask(turned, oracle, budget=80, seed=3),
    ):
        np.testing.assert_array_equal(again.ids, first.ids)
        assert again.reasons == first.reasons


def test_the_answers_matter(scorer: type[ClassLineScorer]) -> None:
    fitted, pool, _ = _fitted(scorer)
    always = fitted.ask(pool, lambda ids: np.full_like(ids, 2), budget=16, seed=0).ids
    never = fitted.ask(pool, lambda ids: np.full_like(ids, 0), budget=16, seed=0).ids
    assert set(always.tolist()) != set(never.tolist())


def test_the_rare_classes_are_found(scorer: type[ClassLineScorer]) -> None:
    fitted, pool, oracle = _fitted(scorer, MinerConfig(class_lines="tail"))
    queue = fitted.ask(pool, oracle, budget=48, seed=0)
    found = sum(oracle.target_of[i] in CLASSES.tail for i in queue.ids.tolist())
    # 24 of 324 are rare: random order finds 3.6 on average.
    assert found >= 12


def test_a_label_that_was_taken_back_is_open_again(scorer: type[ClassLineScorer]) -> None:
    fitted, pool, _ = _fitted(scorer)
    logits = np.concatenate([np.asarray(pool.logits), np.zeros((1, 4), dtype=np.float32)])
    again = Examples(np.append(pool.ids, 5), np.zeros((len(pool) + 1, 1), np.float32), logits)
    queue = fitted.rank(again, budget=len(again), seed=0)
    assert sorted(queue.ids.tolist()) == sorted(again.ids.tolist())


def test_what_is_stored_is_small(scorer: type[ClassLineScorer]) -> None:
    fitted, _, _ = _fitted(scorer)
    assert sum(array.nbytes for array in fitted.state().values()) == 92 * (8 + 4 * 4 + 4)


def test_labels_that_stand_for_several_classes_of_the_model() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 5)).astype(np.float32)
    targets = rng.integers(0, 4, 60)
    label = np.asarray([0, 1, 2, 3, 0, 1])
    head = LabelHead(rng.normal(size=(5, 6)).astype(np.float32), np.zeros(6, np.float32), label, 4)
    labeled = LabeledExamples(Examples(np.arange(60), features), targets, head)
    pool = Examples(np.arange(100, 140), rng.normal(size=(40, 5)).astype(np.float32))
    fitted = Galaxy(CONFIG).fit(labeled, pool, classes=CLASSES, seed=0)
    order = fitted.lines(pool).order(1)
    outputs = np.exp(np.concatenate([features, pool.features]) @ head.weight)
    shares = np.stack([outputs[:, label == k].sum(axis=1) for k in range(4)], axis=1)
    shares /= shares.sum(axis=1, keepdims=True)
    behind = shares[:, 1] - np.delete(shares, 1, axis=1).max(axis=1)
    own = shares.argmax(axis=1) == 1
    assert set(order[: own.sum()].tolist()) == set(np.flatnonzero(own).tolist())
    assert order[own.sum() :].tolist() == [i for i in np.argsort(-behind) if not own[i]]


def test_both_are_in_the_table() -> None:
    makers: dict[str, Callable[[MinerConfig], object]] = dict(SCORERS)
    assert (makers["galaxy"], makers["direct"]) == (Galaxy, Direct)
