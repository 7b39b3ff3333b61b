from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models.errors import ShapeError
from models.metrics import (
    PUBLISHED_BUDGETS,
    average_f,
    average_precision,
    expected_calibration_error,
    found_at,
    metrics_of_scores,
    mining_metrics,
    precision_at,
    precision_recall,
    published_budgets,
    recall_by_class,
    reliability_bins,
    share_tied,
    truncated_auc,
)

N, M = 24_000, 4_800


def test_perfect_order_meets_the_published_anchor() -> None:
    metrics = mining_metrics(np.arange(N) < M, M)
    assert metrics.average_precision == 1
    assert metrics.average_f == pytest.approx(0.5824, abs=5e-5)
    assert metrics.auc == pytest.approx(0.986, abs=5e-4)


def test_random_order_meets_the_published_anchor() -> None:
    # Every fifth is rare: precision is the base rate at every budget.
    hits = np.arange(N) % 5 == 4
    metrics = mining_metrics(hits, M)
    assert metrics.average_f == pytest.approx(0.1456, abs=5e-5)
    assert metrics.auc == pytest.approx(0.0746, abs=5e-5)
    draws = np.random.default_rng(0)
    shuffled = [mining_metrics(draws.permutation(hits), M) for _ in range(20)]
    assert np.mean([one.average_precision for one in shuffled]) == pytest.approx(0.2, abs=0.003)
    assert np.mean([one.average_f for one in shuffled]) == pytest.approx(0.1456, abs=0.002)


def test_average_precision_is_the_usual_one() -> None:
    draws = np.random.default_rng(1)
    scores, rare = draws.normal(size=300), draws.random(300) < 0.1
    expected = average_precision_score(rare, scores)
    assert average_precision(rare[np.argsort(-scores)], int(rare.sum())) == pytest.approx(expected)


def test_by_hand() -> None:
    hits = np.array([True, False, True, False])
    assert average_precision(hits, 2) == pytest.approx((1 + 2 / 3) / 2)
    precision, recall = precision_recall(hits, 2, (1, 2, 4, 9))
    assert precision.tolist() == [1, 0.5, 0.5]
    assert recall.tolist() == [0.5, 0.5, 1]
    assert truncated_auc(hits, 2, (1, 2, 4)) == pytest.approx(0.25)
    assert average_f(hits, 2, (1, 2, 4)) == pytest.approx(np.mean([2 / 3, 0.5, 2 / 3]))
    assert (found_at(hits, 3), found_at(hits, 99)) == (2, 2)
    assert precision_at(hits, 3) == pytest.approx(2 / 3)
    # A queue that is too short is not let off.
    assert precision_at(hits, 8) == 0.25


def test_nothing_found_has_no_f() -> None:
    assert average_f(np.zeros(10, dtype=bool), 3, (5, 10)) == 0


def test_a_head_of_the_queue_counts_what_is_left_as_missed() -> None:
    assert average_precision(np.array([True, True]), 4) == 0.5


def test_budgets_keep_their_fractions() -> None:
    assert published_budgets(N) == PUBLISHED_BUDGETS
    assert published_budgets(17_023)[:3] == (35, 71, 355)
    assert published_budgets(17_023)[-1] == round(0.375 * 17_023)
    assert published_budgets(10) == (1, 2, 3, 4)
    with pytest.raises(ShapeError, match="at least one"):
        published_budgets(0)


def test_scaled_budgets_give_the_same_figures() -> None:
    large, small = np.arange(N) % 5 == 4, np.arange(N // 10) % 5 == 4
    assert mining_metrics(small, M // 10).auc == pytest.approx(
        mining_metrics(large, M).auc, abs=5e-4
    )


@pytest.mark.parametrize(
    ("hits", "total", "why"),
    [
        (np.zeros(5, dtype=bool), 0, "nothing rare"),
        (np.ones(5, dtype=bool), 4, "found 5 hits"),
        (np.ones((5, 1), dtype=bool), 5, "expected"),
        (np.ones(5), 5, "of bool"),
    ],
)
def test_what_cannot_be_measured_is_refused(hits: np.ndarray, total: int, why: str) -> None:
    with pytest.raises(ShapeError, match=why):
        mining_metrics(hits, total)


def test_budgets_that_the_queue_does_not_reach_are_refused() -> None:
    with pytest.raises(ShapeError, match="budgets"):
        truncated_auc(np.ones(5, dtype=bool), 5, (50, 100))


def test_ties_are_shuffled() -> None:
    rare = np.arange(1000) < 100
    assert share_tied(np.array([1.0, 2.0, 2.0, 3.0])) == 0.5
    # All tied: by rows this would look perfect.
    tied = metrics_of_scores(np.zeros(1000), rare)
    assert tied.average_precision < 0.2
    assert tied == metrics_of_scores(np.zeros(1000), rare)
    # A tie among less than 1 % keeps the order of the rows.
    scores = -np.arange(1000.0)
    scores[:5] = 0
    assert metrics_of_scores(scores, rare).average_precision == 1


def test_recall_of_each_tail_class() -> None:
    queue = np.array([0, 0, 2, 1, 0])
    assert recall_by_class(queue, [4, 2, 5, 0], [0, 1, 3], 4) == {0: 0.5, 1: 0.5}
    assert recall_by_class(queue, [4, 2, 5, 0], [1], 0) == {1: 0}


def test_calibration_by_hand() -> None:
    likelihood = np.array([0.05, 0.05, 0.95, 1.0])
    rare = np.array([False, True, True, True])
    bins = reliability_bins(likelihood, rare, bins=10)
    assert [(b.low, b.count, b.share) for b in bins] == [(0, 2, 0.5), (0.9, 2, 1)]
    assert bins[1].likelihood == pytest.approx(0.975)
    expected = (2 * 0.45 + 2 * 0.025) / 4
    assert expected_calibration_error(likelihood, rare, bins=10) == pytest.approx(expected)


def test_true_probabilities_are_calibrated_and_doubled_ones_are_not() -> None:
    draws = np.random.default_rng(2)
    likelihood = draws.random(200_000) ** 4 / 2
    rare = draws.random(len(likelihood)) < likelihood
    assert expected_calibration_error(likelihood, rare) < 0.005
    assert expected_calibration_error(2 * likelihood, rare) > 0.05


@pytest.mark.parametrize("bad", [[-0.1], [1.1], [np.nan], []])
def test_what_is_no_probability_is_refused(bad: list[float]) -> None:
    with pytest.raises(ShapeError):
        reliability_bins(np.asarray(bad), np.zeros(len(bad), dtype=bool))


def test_refuses_shapes_that_differ() -> None:
    with pytest.raises(ShapeError, match="scores"):
        metrics_of_scores(np.zeros(3), np.zeros(4, dtype=bool))
