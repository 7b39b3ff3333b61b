from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.labelstudio.results import (
    MIN_GAP,
    last_place,
    live_score,
    predict_answer,
    published_scores,
)

UNIT = st.floats(0, 1, allow_nan=False) | st.floats(0, 1, width=32) | st.sampled_from([0.0, 1.0])


def check(rarities: list[float]) -> None:
    scores = json.loads(json.dumps(published_scores(rarities)))
    assert len(scores) == len(rarities)
    assert all(0.0 <= score <= 1.0 for score in scores)
    gaps = [after - before for before, after in itertools.pairwise(scores)]
    assert all(gap > MIN_GAP / 2 for gap in gaps)
    expected = [1 - rarity for rarity in sorted(rarities, reverse=True)]
    for score, plain in zip(scores, expected, strict=True):
        assert abs(score - plain) <= MIN_GAP * len(rarities) + 1e-12


@given(st.lists(UNIT, max_size=80))
def test_scores_follow_the_queue_strictly_and_stay_likelihoods(rarities: list[float]) -> None:
    check(rarities)


@given(st.lists(UNIT, min_size=2, max_size=40))
def test_the_queue_decides_the_order_not_the_rarity(rarities: list[float]) -> None:
    assert published_scores(rarities) == published_scores(rarities[::-1])


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 5000])
def test_equal_rarities_keep_their_order(value: float, count: int) -> None:
    check([value] * count)


def test_half_rare_half_not() -> None:
    check([1.0] * 2500 + [0.0] * 2500)


def test_well_separated_rarities_are_published_as_they_are() -> None:
    assert published_scores([0.75, 0.5, 0.25]) == [0.25, 0.5, 0.75]
    assert published_scores([0.25, 0.75]) == [0.25, 0.75]
    assert published_scores([]) == []


def test_float32_rounding_is_taken_and_nonsense_is_not() -> None:
    assert published_scores([1.0000001]) == [0.0]
    assert live_score(1.0000001) == 0.0
    for value in (float("nan"), float("inf"), -0.1, 1.1):
        with pytest.raises(ValueError, match=r"expected a number in \[0, 1\]"):
            published_scores([0.5, value])
        with pytest.raises(ValueError, match="expected"):
            live_score(value)


def test_live_scores_and_the_last_place() -> None:
    assert live_score(0.75) == 0.25
    assert last_place() == live_score(0.0) == 1.0


def test_an_answer_always_has_a_result_list() -> None:
    assert predict_answer(0.25, model_version="rf-1") == {
        "result": [],
        "score": 0.25,
        "model_version": "rf-1",
    }
    assert predict_answer(1.0, model_version="rf-1", result=({"a": 1},))["result"] == [{"a": 1}]
    with pytest.raises(ValueError, match="expected"):
        predict_answer(float("nan"), model_version="rf-1")
