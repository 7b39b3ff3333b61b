from __future__ import annotations

import json
from pathlib import Path

import pytest

from backend.errors import UnsupportedLabelConfig
from backend.labelstudio.interface import config_sha256, label_config_digest, parse_label_config

PAYLOADS = Path(__file__).parents[3] / "contract" / "payloads" / "1.23.2"
IMAGE = '<Image name="img" value="$image"/>'
CHOICES = '<Choice value="cat"/><Choice value="dog"/>'
SINGLE = f'<Choices name="cls" toName="img">{CHOICES}</Choices>'


def view(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


def test_one_image_and_one_single_choice() -> None:
    config = view(IMAGE, f'<Choices name="cls" toName="img" model_skip="1">{CHOICES}</Choices>')
    interface = parse_label_config(config)
    assert interface.control_name == "cls"
    assert interface.image_name == "img"
    assert interface.data_key == "image"
    assert interface.labels == ("cat", "dog")
    assert interface.attribute("model_skip") == "1"
    assert interface.attribute("absent") is None


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
        (view(IMAGE), "no Choices tag"),
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
    config = view(
        IMAGE, '<RectangleLabels name="box" toName="img"><Label value="x"/></RectangleLabels>'
    )
    with pytest.raises(UnsupportedLabelConfig) as caught:
        parse_label_config(config)
    assert caught.value.found == ("Image", "RectangleLabels")


def test_the_digest_is_of_the_meaning() -> None:
    plain = view(IMAGE, SINGLE)
    laid_out = view("\n  ", IMAGE, '<Header value="Which?"/>', SINGLE)
    other = view(IMAGE, SINGLE.replace("dog", "cow"))
    assert label_config_digest(plain) == label_config_digest(laid_out)
    assert label_config_digest(plain) != label_config_digest(other)
    assert config_sha256(plain) != config_sha256(laid_out)
    assert label_config_digest("<View/>") == config_sha256("<View/>")
