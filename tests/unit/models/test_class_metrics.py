from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom, gmean, hmean
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from models.class_metrics import ClassMetrics, clopper_pearson
from models.errors import ShapeError

NAMES = ("ok", "scratch", "defect")
CONFUSION = np.array([[90, 8, 2], [4, 15, 1], [1, 1, 3]])


def _of(confusion: np.ndarray, tail: tuple[int, ...] = (2,)) -> ClassMetrics:
    names = tuple(f"class {k}" for k in range(len(confusion)))
    return ClassMetrics.from_confusion(confusion, class_names=names, tail=tail)


def test_the_figures_of_a_known_matrix() -> None:
    found = ClassMetrics.from_confusion(CONFUSION, class_names=NAMES, tail=(2,))
    assert [c.count for c in found.classes] == [100, 20, 5]
    assert [c.recall for c in found.classes] == [0.9, 0.75, 0.6]
    assert [c.predicted for c in found.classes] == [95, 24, 6]
    assert found.count == 125
    assert found.accuracy == pytest.approx(108 / 125)
    assert found.balanced_accuracy == pytest.approx(0.75)
    assert found.geometric_mean == pytest.approx(gmean([0.9, 0.75, 0.6]))
    assert found.tail_f1 == {"defect": pytest.approx(hmean([3 / 6, 3 / 5]))}
    assert (found.calibration_error, found.nll, found.notes) == (None, None, ())
    assert ClassMetrics.model_validate_json(found.model_dump_json()) == found


def test_a_class_that_is_never_found_makes_the_geometric_mean_exactly_0() -> None:
    found = _of(np.array([[5, 0, 0], [0, 5, 0], [1, 4, 0]]))
    assert found.geometric_mean == 0.0
    assert found.classes[2].f1 == 0.0
    assert found.tail_f1 == {"class 2": 0.0}
    assert found.balanced_accuracy == pytest.approx(2 / 3)


def test_a_class_without_an_example_is_left_out_with_a_note() -> None:
    found = _of(np.array([[5, 0, 1], [0, 5, 0], [0, 0, 0]]), tail=(1, 2))
    absent = found.classes[2]
    assert (absent.recall, absent.f1, absent.low, absent.high) == (None, None, 0.0, 1.0)
    assert absent.predicted == 1
    assert found.balanced_accuracy == pytest.approx((5 / 6 + 1) / 2)
    assert found.macro_f1 == pytest.approx((10 / 11 + 1) / 2)
    assert found.tail_f1 == {"class 1": 1.0}
    assert found.notes == ("class 2 has no example here and is left out of every mean",)
    assert "are left out" in _of(np.diag([5, 0, 0])).notes[0]


@given(arrays(np.int64, (4, 4), elements=st.integers(0, 20)).filter(lambda c: c.sum() > 0))
def test_the_geometric_mean_is_never_above_balanced_accuracy(confusion: np.ndarray) -> None:
    found = _of(confusion)
    assert 0 <= found.geometric_mean <= found.balanced_accuracy <= 1
    for each in found.classes:
        if each.recall is not None:
            assert each.low <= each.recall <= each.high


def test_equal_recalls_have_one_mean() -> None:
    found = _of(np.array([[7, 3, 0], [3, 7, 0], [0, 3, 7]]))
    assert found.geometric_mean == pytest.approx(0.7)
    assert found.geometric_mean <= found.balanced_accuracy


@pytest.mark.parametrize(("correct", "count"), [(0, 5), (12, 15), (1, 40), (39, 40)])
def test_the_interval_is_the_exact_one(correct: int, count: int) -> None:
    low, high = clopper_pearson(correct, count)
    if correct:
        assert binom.sf(correct - 1, count, low) == pytest.approx(0.025)
    else:
        assert low == 0.0
    assert binom.cdf(correct, count, high) == pytest.approx(0.025)


def test_intervals_at_the_ends() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert clopper_pearson(5, 5) == (pytest.approx(0.025 ** (1 / 5)), 1.0)
    assert clopper_pearson(12, 15) == (
        pytest.approx(0.519, abs=1e-3),
        pytest.approx(0.957, abs=1e-3),
    )


def test_figures_of_probabilities_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    targets = rng.choice(3, 300, p=[0.8, 0.15, 0.05])
    shares = rng.dirichlet([2, 1, 1], 300)
    found = ClassMetrics.from_probabilities(targets, shares, class_names=NAMES, tail=(1, 2))
    said = shares.argmax(axis=1)
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(targets, said))
    assert found.macro_f1 == pytest.approx(f1_score(targets, said, average="macro"))
    each = f1_score(targets, said, average=None)
    assert list(found.tail_f1.values()) == pytest.approx(each[1:].tolist())
    assert found.nll == pytest.approx(log_loss(targets, shares))
    assert found.accuracy == pytest.approx((said == targets).mean())


def test_the_calibration_error_of_what_holds_and_what_does_not() -> None:
    targets = np.repeat([0, 1], [80, 20])
    names = ("a", "b")
    honest = np.tile([0.8, 0.2], (100, 1))
    found = ClassMetrics.from_probabilities(targets, honest, class_names=names)
    assert found.calibration_error == pytest.approx(0)
    sure = np.tile([1.0, 0.0], (100, 1))
    found = ClassMetrics.from_probabilities(targets, sure, class_names=names)
    assert found.calibration_error == pytest.approx(0.2)
    assert found.nll == pytest.approx(-0.2 * np.log(1e-12))


@pytest.mark.parametrize(
    ("targets", "shares", "said"),
    [
        ([0], [[0.5, 0.5]], "expected one row"),
        ([], np.empty((0, 3)), "one target at least"),
        ([3], [[0.5, 0.5, 0.0]], "expected"),
        ([-1], [[0.5, 0.5, 0.0]], "expected"),
        ([0], [[np.nan, 0.5, 0.0]], "NaN"),
        ([0], [[1.5, -0.5, 0.0]], "outside"),
    ],
)
def test_probabilities_that_cannot_be_are_refused(
    targets: list[int], shares: list[list[float]], said: str
) -> None:
    with pytest.raises(ShapeError, match=said):
        ClassMetrics.from_probabilities(
            np.asarray(targets, dtype=np.int64), np.asarray(shares), class_names=NAMES
        )


def test_counts_that_cannot_be_are_refused() -> None:
    for confusion in (np.zeros((3, 3), dtype=int), np.eye(2, dtype=int), -np.eye(3, dtype=int)):
        with pytest.raises(ShapeError, match="confusion matrix"):
            ClassMetrics.from_confusion(confusion, class_names=NAMES)
    with pytest.raises(ShapeError, match="tail classes"):
        ClassMetrics.from_confusion(CONFUSION, class_names=NAMES, tail=(3,))
