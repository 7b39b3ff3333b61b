"""Label Studio's percents and our corners, over sizes, turns, edges and refusals."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.detection.boxes import Box, from_text, to_text
from models.tasks.detection import BoxAnnotation, Detection, box_region, boxes_of

LABELS = {"label": ("cat", "dog")}
PERCENT = 1e-4 / 100  # what is lost on the way, as a share

sides = st.integers(1, 20_000)


@st.composite
def pictures(draw: st.DrawFn) -> tuple[int, int, Box]:
    """A picture's width and height in pixels, and a box on it of whole pixels."""
    width, height = draw(sides), draw(sides)
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x1, y1 = draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height))
    label = draw(st.sampled_from(["cat", "dog"]))
    return width, height, Box(label, x0 / width, y0 / height, x1 / width, y1 / height)


def through_json(region: dict[str, object]) -> dict[str, object]:
    read: dict[str, object] = json.loads(json.dumps(region))
    return read


@given(pictures(), st.floats(0, 1))
def test_a_box_comes_back_as_it_went(picture: tuple[int, int, Box], confidence: float) -> None:
    width, height, box = picture
    region = box_region(
        str(box.label),
        box.corners,
        confidence=confidence,
        from_name="label",
        to_name="image",
        size=(width, height),
    )
    (back,), reasons = boxes_of([through_json(region)], LABELS)
    assert back.label == box.label
    assert back.corners == pytest.approx(box.corners, abs=PERCENT)
    assert reasons == ()
    assert region["score"] == confidence


@given(pictures())
def test_a_box_is_the_same_after_it_was_kept_as_text(picture: tuple[int, int, Box]) -> None:
    *_, box = picture
    (kept,) = from_text(to_text([box]))
    assert kept.x0 < kept.x1
    assert kept.y0 < kept.y1
    assert kept.corners == pytest.approx(box.corners, abs=PERCENT)
    assert to_text([kept]) == to_text([box])


@given(pictures(), st.integers(-8, 8))
def test_a_box_that_was_drawn_turned_by_quarters_is_the_same_box(
    picture: tuple[int, int, Box], quarters: int
) -> None:
    width, height, box = picture
    # What an annotator sees is an upright rectangle; Label Studio keeps the corner that was the
    # top left one before the turn, and the sides as they were.
    x, y = {
        0: (box.x0, box.y0),
        1: (box.x1, box.y0),
        2: (box.x1, box.y1),
        3: (box.x0, box.y1),
    }[quarters % 4]
    across, down = (box.x1 - box.x0) * width, (box.y1 - box.y0) * height
    if quarters % 2:
        across, down = down, across
    region = {
        "type": "rectanglelabels",
        "from_name": "label",
        "original_width": width,
        "original_height": height,
        "value": {
            "x": 100 * x,
            "y": 100 * y,
            "width": 100 * across / width,
            "height": 100 * down / height,
            "rotation": 90 * quarters,
            "rectanglelabels": [box.label],
        },
    }
    (back,), reasons = boxes_of([region], LABELS)
    assert back.label == box.label
    assert back.corners == pytest.approx(box.corners, abs=PERCENT)
    assert reasons == ()


anything = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-300, 300),
    st.integers(),
    st.none(),
    st.text(max_size=3),
    st.booleans(),
    st.lists(st.integers(), max_size=1),
)
values = st.one_of(
    anything,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("x", "y", "width", "height", "rotation"), anything),
            "rectanglelabels": st.one_of(
                st.none(), st.lists(st.sampled_from(["cat", "dog", "pig", 7, None]), max_size=3)
            ),
        },
    ),
)
regions = st.fixed_dictionaries(
    {"type": st.sampled_from(["rectanglelabels", "choices", None])},
    optional={
        "id": anything,
        "from_name": st.one_of(st.just("label"), anything),
        "value": values,
        "original_width": anything,
        "original_height": anything,
        "image_rotation": anything,
    },
)


@settings(max_examples=400)
@given(st.lists(regions, max_size=5))
def test_whatever_is_stored_gives_boxes_within_the_picture_or_a_reason(
    result: list[dict[str, object]],
) -> None:
    boxes, reasons = boxes_of(result, LABELS)
    for box in boxes:
        assert all(map(math.isfinite, box.corners))
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1
        assert box.label in {"cat", "dog", None}
    ours = sum(
        one["type"] == "rectanglelabels" and one.get("from_name") == "label" for one in result
    )
    assert len(reasons) <= 2 * ours
    said = " ".join(reasons)
    assert ours == 0 or boxes or said
    assert all(box.label is not None for box in boxes) or said
    assert from_text(to_text(boxes)) is not None


@given(st.floats(-200, 200), st.floats(-200, 200), st.floats(0.01, 300), st.floats(0.01, 300))
def test_clipping_keeps_what_is_within(x: float, y: float, width: float, height: float) -> None:
    region = {
        "type": "rectanglelabels",
        "from_name": "label",
        "value": {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": ["cat"]},
    }
    boxes, reasons = boxes_of([region], LABELS)
    wanted = [min(max(value / 100, 0.0), 1.0) for value in (x, y, x + width, y + height)]
    if min(wanted[2] - wanted[0], wanted[3] - wanted[1]) < 1e-6:
        assert boxes == ()
        assert "covers nothing" in reasons[0]
        return
    (box,) = boxes
    assert box.label == "cat"
    assert box.corners == pytest.approx(tuple(wanted), abs=1e-9)
    beyond = max(-x, -y, x + width - 100, y + height - 100)
    assert ("is clipped" in " ".join(reasons)) == (beyond > 1e-3)


@given(
    pictures(),
    st.floats(-1000, 1000).filter(lambda angle: abs(math.remainder(angle, 90)) > 1e-3),
)
def test_other_turns_are_refused_and_their_corners_covered(
    picture: tuple[int, int, Box], angle: float
) -> None:
    width, height, box = picture
    x, y = box.x0 * width, box.y0 * height
    across, down = (box.x1 - box.x0) * width, (box.y1 - box.y0) * height
    region = {
        "type": "rectanglelabels",
        "from_name": "label",
        "original_width": width,
        "original_height": height,
        "value": {
            "x": 100 * box.x0,
            "y": 100 * box.y0,
            "width": 100 * across / width,
            "height": 100 * down / height,
            "rotation": angle,
            "rectanglelabels": ["cat"],
        },
    }
    boxes, (reason,) = boxes_of([region], LABELS)
    assert "is turned by" in reason or "covers nothing" in reason
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for right, below in ((0, 0), (across, 0), (0, down), (across, down)):
        there = (x + right * cos - below * sin) / width, (y + right * sin + below * cos) / height
        if not all(1e-5 < value < 1 - 1e-5 for value in there):
            continue
        for hull in boxes:
            assert hull.label is None
            assert hull.x0 - 1e-6 <= there[0] <= hull.x1 + 1e-6
            assert hull.y0 - 1e-6 <= there[1] <= hull.y1 + 1e-6


drawn = st.lists(
    st.builds(
        lambda label, x, y: Box(label, x / 10, y / 10, x / 10 + 0.3, y / 10 + 0.3),
        st.sampled_from(["cat", "dog", None]),
        st.integers(0, 7),
        st.integers(0, 7),
    ),
    max_size=5,
)


@given(st.lists(drawn, min_size=1, max_size=4))
def test_a_merge_knows_no_order_and_invents_nothing(by_annotator: list[list[Box]]) -> None:
    annotations = [BoxAnnotation(tuple(boxes), who) for who, boxes in enumerate(by_annotator)]
    found = Detection.vote(annotations)
    backwards = [
        BoxAnnotation(tuple(reversed(one.boxes)), one.annotator) for one in reversed(annotations)
    ]
    assert Detection.vote(backwards) == found
    assert found is not None
    assert len(found) <= sum(len(boxes) for boxes in by_annotator)
    everything = [box for boxes in by_annotator for box in boxes]
    for box in found:
        assert box.label is None or any(box.label == one.label for one in everything)
        assert 0 <= box.x0 < box.x1 <= 1
        assert 0 <= box.y0 < box.y1 <= 1


@given(drawn, st.integers(2, 5))
def test_annotators_who_agree_are_taken_at_their_word(boxes: list[Box], annotators: int) -> None:
    once = list({to_text([box]): box for box in boxes}.values())
    annotations = [BoxAnnotation(tuple(once), who) for who in range(annotators)]
    merged = Detection.vote(annotations)
    assert merged is not None
    assert to_text(merged) == to_text(once)
