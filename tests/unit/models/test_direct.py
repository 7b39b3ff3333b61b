"""DIRECT on lines by hand, METHODS section 20.2, and its search under noise."""

from __future__ import annotations

import numpy as np
import pytest

from models.config import MinerConfig
from models.scorers.class_lines import Signs
from models.scorers.direct import (
    Direct,
    ThresholdSearch,
    best_threshold,
    outwards,
    search_budgets,
    threshold_scores,
    window,
)
from models.types import ClassSpace, Examples, IntArray, LabeledExamples


def _signs(text: str) -> Signs:
    return np.asarray([{"+": 1, "-": -1, "0": 0}[sign] for sign in text], dtype=np.int8)


def _search(signs: Signs, *, budget: int, annotators: int = 20, seed: int = 0) -> ThresholdSearch:
    rng = np.random.default_rng(seed)
    return ThresholdSearch(signs, budget=budget, annotators=annotators, balanced=False, rng=rng)


def test_scores_and_threshold_by_hand() -> None:
    assert threshold_scores(_signs("++-0+--")).tolist() == [0, 2, 4, 2, 2, 4, 2, 0]
    assert best_threshold(_signs("++-0+--")) == 2
    assert threshold_scores(_signs("+000-")).tolist() == [0, 2, 2, 2, 2, 0]
    # The middle of 1..4; the released code takes 1.
    assert best_threshold(_signs("+000-")) == 2


def test_without_one_sign_the_line_is_read_from_its_first_best() -> None:
    assert best_threshold(_signs("000-")) == 0
    assert best_threshold(_signs("+000")) == 1
    assert best_threshold(_signs("0000")) == 0


def test_a_score_counts_the_labels_on_the_wrong_side() -> None:
    rng = np.random.default_rng(0)
    signs = rng.integers(-1, 2, 40).astype(np.int8)
    labels = int((signs != 0).sum())
    for threshold, score in enumerate(threshold_scores(signs).tolist()):
        errors = int((signs[:threshold] < 0).sum() + (signs[threshold:] > 0).sum())
        assert score == labels - 2 * errors


def test_alike_weights_stand_against_many_labels_of_others() -> None:
    # Three - above two true +: the plain count gives the class up.
    signs = _signs("---++" + "-" * 95)
    assert best_threshold(signs) == 0
    assert best_threshold(signs, balanced=True) == 5
    # Without a + there is nothing to weigh.
    assert best_threshold(_signs("000-"), balanced=True) == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("++-0+--", (1, 5)),
        ("0+00-0", (1, 4)),
        ("00-0-", (0, 2)),
        ("0+0+00", (3, 5)),
        ("-0+0", (0, 3)),
        ("000", (0, 2)),
    ],
)
def test_windows_by_hand(text: str, expected: tuple[int, int]) -> None:
    assert window(_signs(text)) == expected


def test_the_shrink_schedule() -> None:
    signs = np.zeros(1000, dtype=np.int8)
    truth = np.where(np.arange(1000) < 300, 1, -1).astype(np.int8)
    search = _search(signs, budget=60)
    drawn, left = [], []
    while len(positions := search.draw()):
        drawn.append(len(positions))
        search.tell(truth[positions])
        left.append(len(search.unlabeled()))
    # 980 unlabeled shrink to 99; 79 to 9; nothing is left of those, and 11 labels are not spent.
    assert drawn == [20, 20, 9]
    assert left == [99, 9, 0]


def test_a_round_figure_is_not_shrunk_to_one_more() -> None:
    signs = np.zeros(126, dtype=np.int8)
    search = _search(signs, budget=3, annotators=1)
    search.tell(np.full(len(search.draw()), 1, dtype=np.int8))
    # 125 ** (2/3) = 25, in floating point a little more.
    assert len(search.unlabeled()) == 25


def test_draws_come_from_the_window() -> None:
    signs = _signs("+" + "0" * 50 + "+" + "0" * 30 + "-" + "0" * 50)
    search = _search(signs, budget=20)
    positions = search.draw()
    assert len(positions) == 20
    assert positions.min() > 51
    assert positions.max() < 82


def test_a_true_order_ends_without_errors() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = np.where(np.arange(500) < rng.integers(1, 500), 1, -1).astype(np.int8)
        signs = np.zeros(500, dtype=np.int8)
        known = rng.choice(500, 10, replace=False)
        signs[known] = truth[known]
        search = _search(signs, budget=60, seed=seed)
        while len(positions := search.draw()):
            search.tell(truth[positions])
        threshold = best_threshold(signs)
        assert (signs[:threshold] >= 0).all()
        assert (signs[threshold:] <= 0).all()


def test_a_tenth_of_wrong_labels_hardly_moves_the_threshold() -> None:
    misses = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        wrong = rng.random(2000) < 0.1
        truth = np.where((np.arange(2000) < 200) ^ wrong, 1, -1).astype(np.int8)
        signs = np.zeros(2000, dtype=np.int8)
        known = rng.choice(2000, 40, replace=False)
        signs[known] = truth[known]
        search = _search(signs, budget=100, seed=seed)
        while len(positions := search.draw()):
            search.tell(truth[positions])
        misses.append(abs(best_threshold(signs) - 200))
    # Measured: median 0, mean 2.
    assert np.median(misses) <= 1
    assert np.mean(misses) < 4


def test_budgets_of_the_search() -> None:
    # Enough for 60 each: half of the budget, evenly, the fewest labels first.
    assert search_budgets(500, np.asarray([9, 5, 7])) == [(1, 83), (2, 83), (0, 83)]
    # Else 60 for those with the fewest labels; never more than half.
    labels = np.arange(10)[::-1]
    assert search_budgets(500, labels) == [(9, 60), (8, 60), (7, 60), (6, 60)]
    assert search_budgets(100, labels) == [(9, 50)]
    assert search_budgets(1, labels) == [(9, 0)]
    for budget in range(1, 3000, 7):
        assert sum(share for _, share in search_budgets(budget, labels)) <= budget // 2


def test_outwards_from_a_threshold() -> None:
    signs = _signs("00+0-0000")
    assert list(outwards(signs, 3)) == [1, 3, 0, 5, 6, 7, 8]
    assert list(outwards(signs, 0)) == [0, 1, 3, 5, 6, 7, 8]
    assert list(outwards(signs, 9)) == [8, 7, 6, 5, 3, 1, 0]


class _Batches:
    """An oracle that counts what comes together."""

    def __init__(self, targets: dict[int, int]) -> None:
        self.targets = targets
        self.sizes: list[int] = []

    def __call__(self, ids: IntArray) -> IntArray:
        self.sizes.append(len(ids))
        return np.asarray([self.targets[i] for i in ids.tolist()], dtype=np.int64)


def _problem(classes: int, size: int, labels: int) -> tuple[LabeledExamples, Examples, _Batches]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, classes, labels + size)
    logits = (rng.normal(size=(labels + size, classes)) + np.eye(classes)[targets]).astype("f4")
    features = np.zeros((labels + size, 1), dtype=np.float32)
    ids = np.arange(labels + size)
    labeled = Examples(ids[:labels], features[:labels], logits[:labels])
    pool = Examples(ids[labels:], features[labels:], logits[labels:])
    oracle = _Batches(dict(zip(ids.tolist(), targets.tolist(), strict=True)))
    return LabeledExamples(labeled, targets[:labels]), pool, oracle


def _names(classes: int) -> ClassSpace:
    return ClassSpace(tuple(f"class-{k}" for k in range(classes)))


def test_half_is_searched_in_rounds_and_the_rest_comes_at_once() -> None:
    labeled, pool, oracle = _problem(4, 1000, 40)
    scorer = Direct(MinerConfig()).fit(labeled, pool, classes=_names(4), seed=0)
    queue = scorer.ask(pool, oracle, budget=480, seed=0)
    searched = sum(reason.startswith("search") for reason in queue.reasons)
    assert len(set(queue.ids.tolist())) == 480
    assert max(oracle.sizes[:-1]) == 20
    assert oracle.sizes[-1] == 480 - searched >= 240


def test_one_annotator_waits_for_each_answer() -> None:
    labeled, pool, oracle = _problem(3, 300, 30)
    config = MinerConfig(annotators=1)
    scorer = Direct(config).fit(labeled, pool, classes=_names(3), seed=0)
    scorer.ask(pool, oracle, budget=40, seed=0)
    assert set(oracle.sizes[:-1]) == {1}


def test_the_rest_is_divided_evenly_between_the_classes() -> None:
    labeled, pool, oracle = _problem(10, 1000, 100)
    scorer = Direct(MinerConfig()).fit(labeled, pool, classes=_names(10), seed=0)
    queue = scorer.ask(pool, oracle, budget=15, seed=0)
    # Fewer than two a class: half is for the class with the fewest labels.
    rarest = int(np.bincount(labeled.targets).argmin())
    assert queue.reasons[:7] == (f"search class-{rarest}",) * 7
    assert len(set(queue.reasons[7:])) == 8


def test_every_head_of_a_queue_without_answers_is_half_search() -> None:
    labeled, pool, _ = _problem(3, 400, 30)
    scorer = Direct(MinerConfig()).fit(labeled, pool, classes=_names(3), seed=0)
    reasons = scorer.rank(pool, budget=200, seed=0).reasons
    searched = np.cumsum([reason.startswith("search") for reason in reasons])
    np.testing.assert_array_equal(searched, np.arange(1, 201) // 2)
    # The class with the fewest labels has 60 draws before the next one is searched.
    rarest = int(np.bincount(labeled.targets).argmin())
    first = [reason for reason in reasons if reason.startswith("search")][:60]
    assert set(first) == {f"search class-{rarest}"}


def test_another_seed_draws_others() -> None:
    labeled, pool, oracle = _problem(3, 400, 30)
    scorer = Direct(MinerConfig()).fit(labeled, pool, classes=_names(3), seed=0)
    first, second = (set(scorer.ask(pool, oracle, budget=60, seed=s).ids.tolist()) for s in (0, 1))
    assert first != second
    first, second = (set(scorer.rank(pool, budget=60, seed=s).ids.tolist()) for s in (0, 1))
    assert first != second
