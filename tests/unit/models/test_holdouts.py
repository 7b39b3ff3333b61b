"""How labels are hidden, and what the hidden ones stand for."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import BacktestConfig
from models.errors import NoTailClass, NotEnoughLabels
from models.holdouts import HoldOuts
from models.intervals import resampled_interval
from models.metrics import average_precision, recall_by_class
from models.types import ClassSpace, IntArray
from models.weighted_finds import Finds

NAMES = ("a", "b", "c", "d")
PRIORS = (0.55, 0.35, 0.06, 0.04)
CONFIG = BacktestConfig()


def _targets(*counts: int) -> IntArray:
    return np.repeat(np.arange(len(counts)), counts).astype(np.int64)


def _plan(
    *counts: int, unbiased: np.ndarray | None = None, config: BacktestConfig = CONFIG
) -> HoldOuts:
    return HoldOuts(_targets(*counts), ClassSpace(NAMES, (2, 3), PRIORS), unbiased, config)


def test_known_and_hidden_are_all_labels_and_share_none() -> None:
    plan = _plan(60, 40, 10, 6)
    hold_out = plan.draw(np.random.default_rng(0))
    assert not set(hold_out.known.tolist()) & set(hold_out.hidden.tolist())
    assert len(hold_out.known) + len(hold_out.hidden) == 116
    targets = _targets(60, 40, 10, 6)
    assert np.bincount(targets[hold_out.hidden]).tolist() == [30, 20, 5, 3]
    assert plan.rare == 8
    assert plan.hidden_to_known == 1.0
    other = plan.draw(np.random.default_rng(1))
    assert set(other.hidden.tolist()) != set(hold_out.hidden.tolist())


def test_the_hidden_ones_stand_for_a_pool_as_the_priors_say() -> None:
    plan = _plan(60, 40, 10, 6)
    hold_out = plan.draw(np.random.default_rng(0))
    of = _targets(60, 40, 10, 6)[hold_out.hidden]
    total = hold_out.weights.sum()
    assert total == pytest.approx(plan.pool) == pytest.approx(80)
    assert set(hold_out.weights[of >= 2].tolist()) == {1.0}
    assert hold_out.weights[of == 0].sum() / total == pytest.approx(0.55)
    assert hold_out.weights[of == 1].sum() / total == pytest.approx(0.35)
    assert plan.notes == ()


def test_a_few_labels_do_not_stand_for_thousands() -> None:
    classes = ClassSpace(NAMES, (2, 3), (0.6, 0.399, 0.0005, 0.0005))
    plan = HoldOuts(_targets(60, 40, 10, 6), classes, None, CONFIG)
    assert plan.pool == pytest.approx(8 + 10 * 50)
    assert "0.10% of what is not labeled are rare; here 1.57%" in plan.notes[0]


def test_mined_labels_of_the_head_are_left_out_of_the_pool() -> None:
    targets = _targets(60, 40, 10, 6)
    unbiased = np.ones(len(targets), dtype=bool)
    unbiased[:20] = False  # of class a
    unbiased[100:108] = False  # of class c
    plan = _plan(60, 40, 10, 6, unbiased=unbiased)
    seen = set()
    for seed in range(20):
        hold_out = plan.draw(np.random.default_rng(seed))
        assert np.bincount(targets[hold_out.hidden]).tolist() == [20, 20, 5, 3]
        assert np.bincount(targets[hold_out.known]).tolist() == [30, 20, 5, 3]
        seen |= set(hold_out.hidden.tolist())
        assert hold_out.weights.sum() == pytest.approx(80)
    assert not seen & set(range(20))
    assert seen & set(range(100, 108))
    assert plan.mined == 8


def test_mined_labels_stand_for_the_pool_where_there_are_no_others() -> None:
    unbiased = np.zeros(116, dtype=bool)
    unbiased[:10] = True
    plan = _plan(60, 40, 10, 6, unbiased=unbiased)
    assert len(plan.draw(np.random.default_rng(0)).hidden) == 58
    assert "hard ones" in plan.notes[0]


def test_a_class_with_one_label_stays_known() -> None:
    plan = _plan(60, 1, 12, 1)
    targets = _targets(60, 1, 12, 1)
    for seed in range(5):
        hold_out = plan.draw(np.random.default_rng(seed))
        assert {60, 73} <= set(hold_out.known.tolist())
    assert (plan.tail, plan.rare) == ((2,), 6)
    assert set(targets[hold_out.hidden].tolist()) == {0, 2}
    # What cannot be hidden is not in the imitated pool either: 0.06 of 0.96.
    assert plan.rare / plan.pool == pytest.approx(0.0625)
    assert "d has one label, which is learned from" in plan.notes[0]


def test_a_class_without_labels_is_told() -> None:
    assert "d has no label" in _plan(60, 40, 12, 0).notes[0]


def test_without_priors_the_labels_own_shares_are_taken() -> None:
    plan = HoldOuts(_targets(60, 40, 10, 6), ClassSpace(NAMES, (2, 3)), None, CONFIG)
    assert plan.rare / plan.pool == pytest.approx(18 / 120)
    assert "no label says how rare" in plan.notes[0]


def test_no_more_labels_take_part_than_may() -> None:
    config = BacktestConfig(max_labels=100)
    hold_out = _plan(3000, 1000, 40, 20, config=config).draw(np.random.default_rng(0))
    both = np.concatenate([hold_out.known, hold_out.hidden])
    of = np.bincount(_targets(3000, 1000, 40, 20)[both])
    assert of.sum() <= 100
    assert of[2:].tolist() == [33, 16]
    assert of[0] > 2 * of[1] > 0


@pytest.mark.parametrize(
    ("tail", "counts", "error", "words"),
    [
        ((), (60, 40, 10, 6), NoTailClass, "RAREFIRST_TAIL_CLASSES"),
        ((0, 1, 2, 3), (60, 40, 10, 6), NoTailClass, "every class"),
        ((2, 3), (60, 40, 3, 1), NotEnoughLabels, r"found 3 .*\(c 3, d 1\); expected 6 .*label 3"),
        ((2, 3), (60, 40, 1, 1), NotEnoughLabels, "found 0 .*expected 6"),
        ((2, 3), (9, 6, 10, 6), NotEnoughLabels, "found 15 labels of common classes; expected 20"),
    ],
)
def test_too_few_labels_are_refused_with_what_is_needed(
    tail: tuple[int, ...], counts: tuple[int, ...], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        HoldOuts(_targets(*counts), ClassSpace(NAMES, tail, PRIORS), None, CONFIG)


def test_with_weights_of_one_the_figures_are_those_of_the_metrics() -> None:
    targets = np.random.default_rng(0).choice(4, size=200, p=PRIORS).astype(np.int64)
    totals = np.bincount(targets, minlength=4)
    finds = Finds.of(targets, np.ones(200), (2, 3), totals[2:].tolist())
    hits = targets >= 2
    assert finds.average_precision() == pytest.approx(average_precision(hits, int(hits.sum())))
    assert finds.at(30) == hits[:30].sum()
    assert finds.recall_at(30).tolist() == pytest.approx(
        list(recall_by_class(targets, totals.tolist(), (2, 3), 30).values())
    )
    recalls = [finds.recall_at(n).mean() for n in range(31)]
    assert finds.coverage(30) == pytest.approx(np.trapezoid(recalls) / 30)


def test_a_row_that_stands_for_ten_costs_ten_labels() -> None:
    finds = Finds.of(np.asarray([2, 0, 2]), np.asarray([1.0, 10.0, 1.0]), (2,), (2,))
    assert [finds.at(n) for n in (0, 0.5, 1, 11, 12, 99)] == [0, 0.5, 1, 1, 2, 2]
    assert finds.average_precision() == pytest.approx((1 + 2 / 12) / 2)


def test_the_interval_is_wider_than_that_of_independent_figures() -> None:
    values = np.asarray([0.2, 0.4, 0.3, 0.5, 0.1])
    naive = resampled_interval(values, hidden_to_known=0)
    # Mean 0.3, s = 0.158, t = 2.776: the textbook's interval is 0.3 +- 0.196.
    assert (naive.low, naive.high) == pytest.approx((0.1037, 0.4963), abs=1e-4)
    wider = resampled_interval(values, hidden_to_known=1)
    assert wider.high - wider.mean == pytest.approx((naive.high - 0.3) * np.sqrt(6))
    assert resampled_interval(values, hidden_to_known=1, within=(0, 0.6)).low == 0


def test_two_classes_and_a_thousand_are_hidden_alike() -> None:
    two = HoldOuts(_targets(40, 8), ClassSpace(("a", "b"), (1,), (0.9, 0.1)), None, CONFIG)
    assert (two.rare, two.pool) == (4, pytest.approx(40))
    counts = [*([6] * 700), *([3] * 200), *([1] * 100)]
    classes = ClassSpace(tuple(map(str, range(1000))), tuple(range(700, 1000)))
    many = HoldOuts(_targets(*counts), classes, None, BacktestConfig(max_labels=10_000))
    hold_out = many.draw(np.random.default_rng(0))
    targets = _targets(*counts)
    assert len(np.unique(targets[hold_out.known])) == 1000
    assert len(many.tail) == 200
    assert "700" not in many.notes[0]
    assert "900, 901, 902, 903, 904 and others have one label" in many.notes[0]
