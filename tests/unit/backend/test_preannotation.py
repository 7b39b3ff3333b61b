"""Which predicted boxes are shown to annotators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from backend.labelstudio.interface import ImageBoxes, parse_label_config
from backend.preannotation import box_preannotation, preannotation
from models.tasks.detection import boxes_of

CONTRACT = Path(__file__).parents[2] / "contract" / "payloads" / "1.23.2"
CONFIG = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="cat"/><Label value="dog"/>
</RectangleLabels>
<RectangleLabels name="more" toName="image" model_score_threshold="0.6"><Label value="cow"/>
</RectangleLabels></View>"""
CHOICES = """<View><Image name="image" value="$image"/><Choices name="kind" toName="image">
<Choice value="cat"/><Choice value="dog"/></Choices></View>"""
CLASSES = ("cow", "dog", "cat", "pig")


def interface(config: str = CONFIG) -> ImageBoxes:
    found = parse_label_config(config)
    assert isinstance(found, ImageBoxes)
    return found


def shown(*rows: tuple[float, ...], config: str = CONFIG) -> list[dict[str, object]]:
    boxes = np.asarray(rows, dtype=np.float32).reshape(-1, 6)
    return list(box_preannotation(interface(config), CLASSES, boxes))


def row(number: int, confidence: float, x: float = 0.1) -> tuple[float, ...]:
    return (x, 0.2, x + 0.3, 0.8, number, confidence)


def test_a_box_is_shown_with_its_tag_its_place_and_its_confidence() -> None:
    (region,) = shown(row(1, 0.75))
    assert (region["from_name"], region["to_name"]) == ("box", "image")
    assert region["score"] == 0.75
    (box,), reasons = boxes_of([region], interface().labels_of_control)
    assert box.label == "dog"
    assert box.corners == pytest.approx((0.1, 0.2, 0.4, 0.8), abs=1e-6)
    assert reasons == ()


def test_the_surest_come_first_and_empty_rows_are_none() -> None:
    regions = shown(row(1, 0.5), row(2, 0.9), (0, 0, 0, 0, 0, 0), row(0, 0.7))
    assert [region["score"] for region in regions] == pytest.approx([0.9, 0.7, 0.5])
    assert [region["from_name"] for region in regions] == ["box", "more", "box"]
    assert shown() == []


@pytest.mark.parametrize(
    ("number", "confidence", "is_shown"),
    [(1, 0.29, False), (1, 0.3, True), (0, 0.59, False), (0, 0.6, True), (3, 0.99, False)],
)
def test_faint_boxes_and_other_classes_are_not_shown(
    number: int, confidence: float, is_shown: bool
) -> None:
    assert bool(shown(row(number, confidence))) is is_shown


def test_a_tag_may_ask_for_fainter_ones() -> None:
    config = CONFIG.replace('name="box"', 'name="box" model_score_threshold="0"')
    assert len(shown(row(1, 0.01), row(0, 0.01), config=config)) == 1


def test_equal_boxes_are_shown_once_and_boxes_without_area_never() -> None:
    assert len(shown(row(1, 0.5), row(1, 0.4), row(1, 0.4, x=0.2))) == 2
    assert shown((0.4, 0.2, 0.4, 0.8, 1, 0.9)) == []


def test_label_studios_own_validation_takes_the_regions() -> None:
    result = shown(row(1, 0.75), row(0, 0.9), row(2, 0.3))
    prediction = {"model_version": "v", "score": 0.5, "result": result}
    validate: Any = LabelInterface(CONFIG).validate_prediction
    assert validate(prediction, return_errors=True) == []
    strange = {**result[0], "value": {"rectanglelabels": ["pig"]}}
    assert validate({**prediction, "result": [strange]}, return_errors=True) != []
    assert len({region["id"] for region in result}) == 3


def test_the_recorded_request_gets_a_region_of_its_config() -> None:
    body = json.loads((CONTRACT / "predict_detection_open_task.json").read_text())
    boxes = np.asarray([row(1, 0.75)], dtype=np.float32)
    (region,) = box_preannotation(parse_label_config(body["label_config"]), CLASSES, boxes)
    told = json.loads((CONTRACT / "webhook_ANNOTATION_CREATED_detection.json").read_text())
    (drawn,) = told["annotation"]["result"]
    assert region.keys() - {"score"} == drawn.keys() - {"original_width", "original_height"}
    assert region["from_name"] == drawn["from_name"]
    value = region["value"]
    assert isinstance(value, dict)
    assert value.keys() == drawn["value"].keys()


def test_each_kind_of_config_shows_its_own_kind_only() -> None:
    boxes = np.asarray([row(1, 0.9)], dtype=np.float32)
    choices = parse_label_config(CHOICES)
    assert box_preannotation(choices, CLASSES, boxes) == ()
    assert box_preannotation(None, CLASSES, boxes) == ()
    assert preannotation(interface(), "dog", 0.9) == ()
    assert preannotation(None, "dog", 0.9) == ()
    assert len(preannotation(choices, "dog", 0.9)) == 1
