from __future__ import annotations

from datetime import UTC, datetime

import pytest

from models.errors import ShapeError
from models.tasks import TASKS
from models.tasks.classification import (
    AnnotationVote,
    Classification,
    Conflict,
    choice_region,
    vote_label,
)


def _vote(
    label: str | None, annotator: int = 1, minute: int = 0, *, truth: bool = False
) -> AnnotationVote:
    at = datetime(2026, 1, 1, 12, minute, tzinfo=UTC)
    return AnnotationVote(label=label, annotator=annotator, ground_truth=truth, at=at)


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        ([_vote("a")], "a"),
        ([_vote("a", 1), _vote("b", 2), _vote("a", 3)], "a"),
        ([_vote("a", 1), _vote("b", 2)], Conflict(("a", "b"))),
        # The latest of each annotator counts, whatever the order they come in.
        ([_vote("b", 1, 5), _vote("a", 1, 1), _vote("b", 2)], "b"),
        # Ground truth outvotes any number.
        ([_vote("a", 1), _vote("a", 2), _vote("b", 3, truth=True)], "b"),
        ([_vote("a", 1, truth=True), _vote("b", 2, truth=True)], Conflict(("a", "b"))),
        # A skip is no vote, even marked as truth.
        ([_vote(None, 1), _vote("a", 2)], "a"),
        ([_vote(None, 1, truth=True), _vote("a", 2)], "a"),
        ([_vote(None)], None),
        ([], None),
    ],
)
def test_the_vote(votes: list[AnnotationVote], winner: object) -> None:
    assert Classification.vote(votes) == winner


def test_a_vote_without_labels_is_refused_where_one_is_needed() -> None:
    assert vote_label([_vote("a")]) == "a"
    with pytest.raises(ShapeError):
        vote_label([_vote(None)])


def test_of_two_without_time_the_later_listed_counts() -> None:
    votes = [AnnotationVote("a", annotator=1), AnnotationVote("b", annotator=1)]
    assert vote_label(votes) == "b"


def test_targets_follow_the_config() -> None:
    targets = Classification.targets(["b", "a", "b"], ("a", "b"))
    assert targets.tolist() == [1, 0, 1]
    with pytest.raises(ShapeError, match="'x'"):
        Classification.targets(["x"], ("a", "b"))


def test_the_region_is_label_studios() -> None:
    assert choice_region("a", confidence=0.75, from_name="choice", to_name="image") == {
        "from_name": "choice",
        "to_name": "image",
        "type": "choices",
        "value": {"choices": ["a"]},
        "score": 0.75,
    }
    assert TASKS["Choices"] is Classification
