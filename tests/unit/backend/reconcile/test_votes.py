"""From annotations to one label: a class, or boxes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backend.labelstudio.interface import parse_label_config
from backend.labelstudio.records import AnnotationRecord
from backend.reconcile.votes import vote
from models.detection.boxes import Box, from_text
from tests.unit.backend.reconcile.fake_label_studio import CONFIG

PAYLOADS = Path(__file__).parents[3] / "contract" / "payloads" / "1.23.2"
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


# Boxes -----------------------------------------------------------------------------------------

BOXES = parse_label_config(
    """<View><Image name="image" value="$image"/><TextArea name="note" toName="image"/>
    <RectangleLabels name="box" toName="image"><Label value="red"/><Label value="blue"/>
    </RectangleLabels></View>"""
)


def rectangle(label: str, x: float = 10.0, *, control: str = "box", **value: object) -> object:
    place = {"x": x, "y": 10.0, "width": 40.0, "height": 40.0, "rotation": 0, **value}
    return {
        "id": f"at{x:g}",
        "from_name": control,
        "to_name": "image",
        "type": "rectanglelabels",
        "value": {**place, "rectanglelabels": [label]},
    }


NOTE = {"from_name": "note", "to_name": "image", "type": "textarea", "value": {"text": ["hm"]}}


def drawn(
    *regions: object, by: int = 1, minute: int = 0, skipped: bool = False, truth: bool = False
) -> AnnotationRecord:
    at = START + timedelta(minutes=minute)
    return AnnotationRecord.model_validate(
        {
            "id": minute + 1,
            "result": regions,
            "was_cancelled": skipped,
            "ground_truth": truth,
            "completed_by": by,
            "created_at": at,
            "updated_at": at,
        }
    )


@pytest.mark.parametrize(
    ("annotations", "state", "labels"),
    [
        pytest.param([], "unlabeled", None, id="nobody"),
        pytest.param([drawn(rectangle("red"))], "labeled", ["red"], id="one"),
        pytest.param([drawn()], "labeled", [], id="submitted-without-a-box"),
        pytest.param([drawn(NOTE)], "labeled", [], id="nothing-but-a-note"),
        pytest.param([drawn(skipped=True)], "skipped", None, id="skipped"),
        pytest.param(
            [drawn(rectangle("red"), skipped=True), drawn(by=2)], "labeled", [], id="a-skip-is-none"
        ),
        pytest.param(
            [drawn(rectangle("red")), drawn(rectangle("blue"), by=2)],
            "labeled",
            [None],
            id="tie-of-labels",
        ),
        pytest.param([drawn(rectangle("red")), drawn(by=2)], "labeled", [None], id="one-of-two"),
        pytest.param(
            [drawn(rectangle("red")), drawn(rectangle("red"), by=2), drawn(by=3)],
            "labeled",
            ["red"],
            id="most",
        ),
        pytest.param(
            [drawn(by=1), drawn(by=2), drawn(rectangle("blue"), by=3, truth=True)],
            "labeled",
            ["blue"],
            id="ground-truth-first",
        ),
        pytest.param(
            [drawn(rectangle("red")), drawn(rectangle("blue"), minute=5)],
            "labeled",
            ["blue"],
            id="the-latest-of-each-annotator",
        ),
        pytest.param(
            [drawn(rectangle("red", control="gone"))], "other", None, id="a-control-that-is-gone"
        ),
        pytest.param(
            [drawn(rectangle("red", control="gone"), rectangle("red"))],
            "labeled",
            ["red"],
            id="gone-and-ours",
        ),
        pytest.param(
            [drawn(rectangle("red", control="gone"), NOTE)], "other", None, id="gone-and-a-note"
        ),
    ],
)
def test_vote_on_boxes(
    annotations: list[AnnotationRecord], state: str, labels: list[str | None] | None
) -> None:
    result = vote(annotations, BOXES)
    assert result.state == state
    if labels is None:
        assert result.label == ""
    else:
        assert [box.label for box in from_text(result.label)] == labels


def test_what_is_not_taken_as_it_is_is_noted() -> None:
    result = vote([drawn(rectangle("red", rotation=10, x=10), rectangle("pig", 60))], BOXES)
    assert result.state == "labeled"
    assert [box.label for box in from_text(result.label)] == [None, None]
    assert [note.partition(" is")[0].partition(" has")[0] for note in result.notes] == [
        "region at10",
        "region at60",
    ]
    assert vote([drawn(rectangle("red"))], BOXES).notes == ()


def test_the_recorded_annotation() -> None:
    body = json.loads((PAYLOADS / "webhook_ANNOTATION_CREATED_detection.json").read_text())
    interface = parse_label_config(body["project"]["label_config"])
    told: Mapping[str, object] = body["annotation"]
    result = vote([AnnotationRecord.model_validate(told)], interface)
    assert (result.state, result.annotations, result.notes) == ("labeled", 1, ())
    assert from_text(result.label) == (Box("dog", 0.1, 0.125, 0.5, 0.425),)
