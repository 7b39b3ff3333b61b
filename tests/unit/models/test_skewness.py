from __future__ import annotations

import numpy as np
import pytest

from models.errors import ShapeError
from models.skewness import class_priors, minority_classes, skewness_ratios, update_tail

NAMES = ("a", "b", "c")


def test_ratios_of_the_published_split() -> None:
    counts = [5, 59, 561, 1676, 1953, 2021, 2060, 2070, 2028, 1965]
    ratios = skewness_ratios(counts)
    assert ratios[:3] == pytest.approx([0.0035, 0.041, 0.390], abs=5e-4)
    assert np.flatnonzero(minority_classes(counts)).tolist() == [0, 1]
    assert ratios.sum() == pytest.approx(10)
    assert skewness_ratios(np.asarray(counts) * 7) == pytest.approx(ratios)


def test_equal_counts_have_no_tail() -> None:
    assert skewness_ratios([4, 4, 4]).tolist() == [1, 1, 1]
    assert not minority_classes([4, 4, 4]).any()


def test_the_threshold_itself_is_not_tail() -> None:
    # 10 classes, 100 labels: 3 labels are a ratio of exactly 0.3.
    counts = [3, 2, 13, 13, 13, 13, 13, 10, 10, 10]
    assert np.flatnonzero(minority_classes(counts)).tolist() == [1]


def test_a_class_without_labels_is_tail_with_ratio_zero() -> None:
    assert skewness_ratios([0, 5, 5])[0] == 0
    assert minority_classes([0, 5, 5])[0]


@pytest.mark.parametrize("counts", [[], [0, 0], [1, -1], [1, float("nan")]])
def test_counts_that_say_nothing_are_refused(counts: list[float]) -> None:
    with pytest.raises(ShapeError):
        skewness_ratios(counts)


def test_few_labels_decide_nothing() -> None:
    decision = update_tail([], {"a": 1, "b": 20}, NAMES, counts_all={"a": 1, "b": 20})
    assert decision.tail == ()
    assert "21 of 30" in decision.notes[0]


def test_mining_does_not_change_the_tail_until_the_quota_is_met() -> None:
    unbiased = {"a": 1, "b": 40, "c": 40}
    tail = update_tail([], unbiased, NAMES, counts_all=unbiased).tail
    assert tail == ("a",)
    for mined in range(1, 60):
        counts = {**unbiased, "a": 1 + mined}
        decision = update_tail(tail, unbiased, NAMES, counts_all=counts, quotas=60)
        if mined < 59:
            assert decision.tail == tail
            assert not decision.left
        else:
            assert decision.tail == ()
            assert decision.left == (("a", "its quota is met (60 of 60 labels)"),)
        tail = decision.tail


def test_unbiased_labels_that_grow_do_not_demote() -> None:
    counts = {"a": 30, "b": 30, "c": 30}
    assert update_tail(["a"], counts, NAMES, counts_all=counts).tail == ("a",)


def test_a_person_names_and_removes() -> None:
    counts = {"a": 1, "b": 40, "c": 40}
    decision = update_tail(
        ["a"], counts, NAMES, named=["c", "zebra"], removed=["a"], counts_all=counts
    )
    assert decision.tail == ("c",)
    assert decision.entered == ("c",)
    assert decision.left == (("a", "taken out by a person"),)
    assert any("zebra" in note for note in decision.notes)


def test_a_quota_for_one_class_leaves_the_others() -> None:
    counts = {"a": 9, "b": 9, "c": 90}
    decision = update_tail(["a", "b"], counts, NAMES, counts_all=counts, quotas={"a": 9})
    assert decision.tail == ("b",)


def test_classes_nobody_labeled_are_said_to_be_unlearnable() -> None:
    counts = {"b": 40, "c": 40}
    decision = update_tail([], counts, NAMES, counts_all=counts)
    assert decision.tail == decision.unlearnable == ("a",)
    gone = update_tail(["x"], counts, NAMES, counts_all=counts)
    assert gone.left == (("x", "no longer in the label config"),)


def test_priors_are_shares_with_one_added_to_each() -> None:
    assert class_priors({"a": 7, "b": 1, "gone": 5}, ("a", "b", "c")) == (8 / 11, 2 / 11, 1 / 11)
    assert class_priors({"gone": 5}, ("a", "b")) is None
