"""From annotations to one label."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backend.labelstudio.interface import parse_label_config
from backend.labelstudio.records import AnnotationRecord
from backend.reconcile.votes import vote
from tests.unit.backend.reconcile.fake_label_studio import CONFIG

INTERFACE = parse_label_config(CONFIG)
START = datetime(2026, 11, 21, tzinfo=UTC)


def annotation(
    label: str | None,
    *,
    by: int = 1,
    minute: int = 0,
    skipped: bool = False,
    truth: bool = False,
    control: str = "kind",
) -> AnnotationRecord:
    region = {
        "from_name": control,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [label]},
    }
    at = START + timedelta(minutes=minute)
    return AnnotationRecord(
        id=minute + 1,
        result=() if label is None else (region,),
        was_cancelled=skipped,
        ground_truth=truth,
        completed_by=by,
        created_at=at,
        updated_at=at,
    )


@pytest.mark.parametrize(
    ("annotations", "state", "label"),
    [
        pytest.param([], "unlabeled", "", id="nobody"),
        pytest.param([annotation("red")], "labeled", "red", id="one"),
        pytest.param([annotation(None, skipped=True)], "skipped", "", id="skipped"),
        pytest.param([annotation(None)], "other", "", id="submitted-without-a-choice"),
        pytest.param(
            [annotation("red", skipped=True), annotation("blue", by=2)],
            "labeled",
            "blue",
            id="a-skip-does-not-vote",
        ),
        pytest.param([annotation("red", by=1), annotation("blue", by=2)], "conflict", "", id="tie"),
        pytest.param(
            [annotation("red", by=1), annotation("blue", by=2), annotation("blue", by=3)],
            "labeled",
            "blue",
            id="majority",
        ),
        pytest.param(
            [
                annotation("red", by=1),
                annotation("blue", by=2),
                annotation("blue", by=3),
                annotation("red", by=4, truth=True),
            ],
            "labeled",
            "red",
            id="ground-truth-first",
        ),
        pytest.param(
            [
                annotation("red", by=1, minute=0),
                annotation("red", by=1, minute=1),
                annotation("blue", by=1, minute=2),
                annotation("blue", by=2),
            ],
            "labeled",
            "blue",
            id="the-latest-of-each-annotator",
        ),
        pytest.param([annotation("red", control="other")], "other", "", id="another-control"),
    ],
)
def test_vote(annotations: list[AnnotationRecord], state: str, label: str) -> None:
    result = vote(annotations, INTERFACE)
    assert (result.state, result.label) == (state, label)
