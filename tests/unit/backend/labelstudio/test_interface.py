from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.errors import UnsupportedLabelConfig
from backend.labelstudio.interface import (
    BoxControl,
    ImageBoxes,
    ImageChoices,
    config_sha256,
    parse_label_config,
)

PAYLOADS = Path(__file__).parents[3] / "contract" / "payloads" / "1.23.2"
IMAGE = '<Image name="img" value="$image"/>'
CHOICES = '<Choice value="cat"/><Choice value="dog"/>'
SINGLE = f'<Choices name="cls" toName="img">{CHOICES}</Choices>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def test_one_image_and_one_single_choice() -> None:
    config = view(IMAGE, f'<Choices name="cls" toName="img" showInline="true">{CHOICES}</Choices>')
    interface = parse_label_config(config)
    assert interface.control_name == "cls"
    assert interface.image_name == "img"
    assert interface.data_key == "image"
    assert interface.labels == ("cat", "dog")


def test_labels_are_what_annotations_store() -> None:
    choices = '<Choice value="a" alias="stored"/><Choice value="b"/><Choice value="b"/>'
    config = view(IMAGE, f'<Choices name="cls" toName="img">{choices}</Choices>')
    assert parse_label_config(config).labels == ("stored", "b")


def test_the_recorded_label_config() -> None:
    setup = json.loads((PAYLOADS / "setup.json").read_text())
    body = setup.get("body", setup)
    assert len(parse_label_config(body["schema"]).labels) >= 2


@pytest.mark.parametrize(
    "extra",
    [
        '<TextArea name="note" toName="img"/>',
        '<RectangleLabels name="box" toName="img"><Label value="x"/></RectangleLabels>',
        f'<Choices name="many" toName="img" choice="multiple">{CHOICES}</Choices>',
        f'<Choices name="part" toName="img" perRegion="true">{CHOICES}</Choices>',
        '<Header value="Which?"/>',
    ],
)
def test_what_stands_beside_is_left_alone(extra: str) -> None:
    assert parse_label_config(view(IMAGE, extra, SINGLE)).control_name == "cls"


def test_the_first_of_several_single_choices_is_taken() -> None:
    second = f'<Choices name="second" toName="img">{CHOICES}</Choices>'
    assert parse_label_config(view(IMAGE, SINGLE, second)).control_name == "cls"
    assert parse_label_config(view(IMAGE, second, SINGLE)).control_name == "second"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("", "cannot be read"),
        ("<View", "cannot be read"),
        (view('<Text name="t" value="$t"/>'), "no Image tag"),
        (view(IMAGE, '<Image name="two" value="$b"/>', SINGLE), "2 Image tags"),
        (view('<Image name="img" valueList="$images"/>', SINGLE), "valueList"),
        (view('<Image name="img" value="http://x/a.png"/>', SINGLE), "expected .* task.data"),
        (view(IMAGE), "no Choices or RectangleLabels tag"),
        (
            view(IMAGE, f'<Choices name="cls" toName="img" choice="multiple">{CHOICES}</Choices>'),
            'choice="multiple"',
        ),
        (
            view(IMAGE, f'<Choices name="cls" toName="img" perRegion="true">{CHOICES}</Choices>'),
            "perregion",
        ),
        (
            view(IMAGE, '<Choices name="cls" toName="img"><Choice value="only"/></Choices>'),
            "1 choices",
        ),
        (view(IMAGE, '<Choices name="cls" toName="img" value="$options"/>'), "from the task"),
    ],
)
def test_what_cannot_be_served_says_why(config: str, reason: str) -> None:
    with pytest.raises(UnsupportedLabelConfig, match=reason) as caught:
        parse_label_config(config)
    assert "supported: Image + Choices (single)" in str(caught.value)


def test_the_tags_found_are_named() -> None:
    config = view(IMAGE, '<BrushLabels name="box" toName="img"><Label value="x"/></BrushLabels>')
    with pytest.raises(UnsupportedLabelConfig) as caught:
        parse_label_config(config)
    assert caught.value.found == ("Image", "BrushLabels")
    assert "Image + RectangleLabels" in str(caught.value)


def choices(name: str = "cls", attributes: str = "", inside: str = CHOICES) -> str:
    return f'<Choices name="{name}" toName="img" {attributes}>{inside}</Choices>'


@pytest.mark.parametrize("value", ["true", "1", "YES", " True "])
def test_a_block_that_is_to_be_skipped_gives_way_to_the_next(value: str) -> None:
    skipped = choices("skipped", f'model_skip="{value}"')
    assert parse_label_config(view(IMAGE, skipped, SINGLE)).control_name == "cls"
    with pytest.raises(UnsupportedLabelConfig, match="skipped: model_skip is set"):
        parse_label_config(view(IMAGE, skipped))


@pytest.mark.parametrize("value", ["", "false", "0", "No"])
def test_a_block_that_is_not_to_be_skipped(value: str) -> None:
    found = parse_label_config(view(IMAGE, choices(attributes=f'model_skip="{value}"'), SINGLE))
    assert (found.control_name, found.problems) == ("cls", ())


def test_a_strange_skip_is_left_out_and_told() -> None:
    found = parse_label_config(view(IMAGE, choices(attributes='model_skip="perhaps"')))
    assert found.control_name == "cls"
    assert 'model_skip="perhaps" of cls, expected true or false' in found.problems[0]


@pytest.mark.parametrize(
    ("text", "value"), [("0.5", 0.5), ("0", 0.0), ("1", 1.0), (" .25 ", 0.25), ("", None)]
)
def test_a_threshold_of_pre_annotations(text: str, value: float | None) -> None:
    found = parse_label_config(view(IMAGE, choices(attributes=f'model_score_threshold="{text}"')))
    assert (found.score_threshold, found.problems) == (value, ())


@pytest.mark.parametrize("text", ["half", "1.5", "-0.1", "nan", "inf", "50%", "x" * 500])
def test_a_threshold_that_means_nothing_is_left_out_and_told(text: str) -> None:
    found = parse_label_config(view(IMAGE, choices(attributes=f'model_score_threshold="{text}"')))
    assert found.score_threshold is None
    (problem,) = found.problems
    assert "of cls, expected a number from 0 to 1" in problem
    assert len(problem) < 150


def test_classes_of_the_frozen_model_that_stand_for_a_label() -> None:
    inside = (
        '<Choice value="Car" predicted_values="jeep, cab,,jeep"/><Choice value="Dog"/>'
        '<Choice value="Cat" alias="cat" predicted_values="tabby"/>'
        '<Choice value="Cow" predicted_values=" , "/>'
    )
    found = parse_label_config(view(IMAGE, choices(inside=inside)))
    assert found.predicted_values == (("Car", ("jeep", "cab")), ("cat", ("tabby",)))


def test_the_digest_tells_one_text_from_another() -> None:
    assert config_sha256(view(IMAGE, SINGLE)) == config_sha256(view(IMAGE, SINGLE))
    assert config_sha256(view(IMAGE, SINGLE)) != config_sha256(view("\n", IMAGE, SINGLE))


LABELS = '<Label value="cat"/><Label value="dog"/>'


def rectangles(name: str = "box", attributes: str = "", inside: str = LABELS) -> str:
    return f'<RectangleLabels name="{name}" toName="img" {attributes}>{inside}</RectangleLabels>'


def boxes_in(*tags: str) -> ImageBoxes:
    found = parse_label_config(view(IMAGE, *tags))
    assert isinstance(found, ImageBoxes)
    return found


def test_boxes_on_one_image() -> None:
    found = boxes_in(rectangles(), '<TextArea name="note" toName="img"/>')
    assert found.task == "detection"
    assert (found.control_name, found.image_name, found.data_key) == ("box", "img", "image")
    assert found.controls == (BoxControl("box", ("cat", "dog")),)
    assert (found.labels, found.beside, found.problems) == (("cat", "dog"), ("note",), ())


def test_the_recorded_label_config_of_boxes() -> None:
    body = json.loads((PAYLOADS / "predict_detection_open_task.json").read_text())
    found = parse_label_config(body["label_config"])
    assert isinstance(found, ImageBoxes)
    assert found.labels_of_control == {"label": ("cat", "dog")}


def test_all_tags_of_boxes_are_served_together() -> None:
    second = rectangles(
        "more",
        'model_score_threshold="0.6"',
        '<Label value="dog"/><Label value="cow" predicted_values="ox, bull"/>',
    )
    found = boxes_in(rectangles(), second)
    assert found.control_name == "box, more"
    assert found.labels == ("cat", "dog", "cow")
    assert found.score_threshold == {"more": 0.6}
    assert found.predicted_values == (("cow", ("ox", "bull")),)
    names = {label: found.control_of(label) for label in ("cat", "dog", "cow", "pig")}
    assert {label: own and own.name for label, own in names.items()} == {
        "cat": "box",
        "dog": "box",
        "cow": "more",
        "pig": None,
    }
    (problem,) = found.problems
    assert "box, more all have the label 'dog'" in problem


def test_one_class_of_boxes_is_enough() -> None:
    assert boxes_in(rectangles(inside='<Label value="cell"/>')).labels == ("cell",)


def test_labels_of_boxes_are_what_annotations_store() -> None:
    assert boxes_in(rectangles(inside='<Label value="Cat" alias="c"/>')).labels == ("c",)


def test_a_tag_of_boxes_that_is_to_be_skipped_or_cannot_be_served() -> None:
    skipped = rectangles("skipped", 'model_skip="true"')
    assert boxes_in(skipped, rectangles()).control_name == "box"
    assert boxes_in(skipped, rectangles()).problems == ()
    assert boxes_in(skipped, rectangles()).beside == ("skipped",)
    dynamic = rectangles("theirs", 'value="$labels"', "")
    found = boxes_in(dynamic, rectangles())
    assert found.control_name == "box"
    assert found.problems == (
        "label config: boxes of theirs are left alone: labels come from the task, expected "
        "<Label> tags in the config",
    )
    for alone, why in (
        (skipped, "model_skip"),
        (dynamic, "from the task"),
        (rectangles(inside=""), "0 labels"),
    ):
        with pytest.raises(UnsupportedLabelConfig, match=why):
            parse_label_config(view(IMAGE, alone))


def test_boxes_on_another_object_are_not_ours() -> None:
    other = '<Video name="v" value="$v"/>' + rectangles().replace('"img"', '"v"')
    with pytest.raises(UnsupportedLabelConfig, match="toName='img'"):
        parse_label_config(view(IMAGE, other))


def test_a_choice_that_can_be_served_is_mined_and_boxes_only_without_one() -> None:
    found = parse_label_config(view(rectangles(), IMAGE, SINGLE))
    assert isinstance(found, ImageChoices)
    assert found.task == "classification"
    for unserved in (choices(attributes='model_skip="true"'), choices(attributes='perRegion="1"')):
        served = unserved.replace('perRegion="1"', 'perRegion="true"')
        assert boxes_in(served, rectangles()).beside == ("cls",)


def test_a_threshold_of_boxes_that_means_nothing_is_told() -> None:
    found = boxes_in(rectangles(attributes='model_score_threshold="high" model_skip="perhaps"'))
    assert found.score_threshold == {}
    assert ["model_score_threshold" in problem for problem in found.problems] == [True, False]
