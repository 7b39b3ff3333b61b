"""Regions of Label Studio to boxes, the merge of annotators, and boxes to regions."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from models.detection.boxes import Box, Boxes, from_text, to_text
from models.tasks import TASKS, Detection, class_counts, classes_in, is_usable
from models.tasks.detection import BoxAnnotation, box_region, boxes_of

LABELS = {"label": ("cat", "dog"), "more": ("cow",)}
START = datetime(2026, 11, 21, tzinfo=UTC)


def region(
    *labels: str,
    x: object = 10.0,
    y: object = 20.0,
    width: object = 40.0,
    height: object = 30.0,
    rotation: object = 0,
    control: object = "label",
    **more: object,
) -> dict[str, object]:
    return {
        "id": "r1",
        "from_name": control,
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "rotation": rotation,
            "rectanglelabels": list(labels),
        },
        **more,
    }


def corners(box: Box) -> tuple[float, ...]:
    return tuple(round(value, 9) for value in box.corners)


def test_percents_become_shares() -> None:
    (box,), reasons = boxes_of([region("dog")], LABELS)
    assert (box.label, corners(box), reasons) == ("dog", (0.1, 0.2, 0.5, 0.5), ())


def test_a_region_with_several_labels_is_a_box_for_each() -> None:
    boxes, reasons = boxes_of([region("dog", "cat", "dog")], LABELS)
    assert [box.label for box in boxes] == ["dog", "cat"]
    assert len({box.corners for box in boxes}) == 1
    assert not reasons


@pytest.mark.parametrize(
    "other",
    [
        region("dog", control="theirs"),
        region("dog", control=["label"]),
        region("dog", type="brushlabels"),
        {"type": "choices", "from_name": "label", "value": {"choices": ["dog"]}},
        {"type": "relation", "from_id": "r1", "to_id": "r2"},
        {},
    ],
)
def test_what_is_not_ours_is_left_alone(other: dict[str, object]) -> None:
    assert boxes_of([other], LABELS) == ((), ())


@pytest.mark.parametrize(
    ("turned", "expected"),
    [
        # 80 x 30 pixels at (20, 20) of 200 x 100.
        (region("dog", rotation=360), (0.1, 0.2, 0.5, 0.5)),
        (region("dog", rotation=-720.0), (0.1, 0.2, 0.5, 0.5)),
        # Clockwise about the top left corner: 30 to its left, 80 down.
        (region("dog", x=50, y=10, rotation=90), (0.35, 0.1, 0.5, 0.9)),
        (region("dog", x=50, y=10, rotation=-270), (0.35, 0.1, 0.5, 0.9)),
        (region("dog", x=50, y=50, rotation=180), (0.1, 0.2, 0.5, 0.5)),
        # 30 to its right, 80 up.
        (region("dog", x=50, y=90, rotation=270), (0.5, 0.1, 0.65, 0.9)),
    ],
)
def test_whole_and_quarter_turns_are_boxes(
    turned: dict[str, object], expected: tuple[float, ...]
) -> None:
    (box,), reasons = boxes_of([turned], LABELS)
    assert (box.label, corners(box), reasons) == ("dog", expected, ())


def test_another_turn_is_refused_and_its_place_kept_from_being_background() -> None:
    # A square of 20 pixels about (100, 50), turned by 45 degrees: 28.28 pixels across and down.
    turned = region("dog", "cat", x=50, y=50, width=10, height=20, rotation=45)
    (box,), (reason,) = boxes_of([turned], LABELS)
    assert box.label is None
    half = 20 * 2**0.5 / 2
    assert box.corners == pytest.approx(
        ((100 - half) / 200, 0.5, (100 + half) / 200, (50 + 2 * half) / 100)
    )
    assert reason == (
        "region r1 is turned by 45 degrees, expected upright; nothing is learned there"
    )


@pytest.mark.parametrize(
    ("unknown", "reason"),
    [
        (region("dog", image_rotation=90), "drawn on a turned picture"),
        (region("dog", image_rotation="left"), "drawn on a turned picture"),
        (region("dog", rotation=90, original_width=None), "does not say how large"),
        (region("dog", rotation=33, original_height=0), "does not say how large"),
    ],
)
def test_where_the_place_is_not_known_nothing_of_the_image_is_background(
    unknown: dict[str, object], reason: str
) -> None:
    boxes, (said,) = boxes_of([unknown], LABELS)
    assert boxes == (Box(None, 0.0, 0.0, 1.0, 1.0),)
    assert reason in said
    assert "nothing is learned of this image" in said


def test_a_whole_turn_of_the_picture_is_none() -> None:
    (box,), reasons = boxes_of([region("dog", image_rotation=360)], LABELS)
    assert (box.label, reasons) == ("dog", ())


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        (region("dog", x=-10), (0.0, 0.2, 0.3, 0.5)),
        (region("dog", x=90), (0.9, 0.2, 1.0, 0.5)),
        (region("dog", y=-5, height=300), (0.1, 0.0, 0.5, 1.0)),
        (region("dog", x=-1e300, width=2e300), (0.0, 0.2, 1.0, 0.5)),
    ],
)
def test_boxes_beyond_the_edges_are_clipped_with_a_note(
    over: dict[str, object], expected: tuple[float, ...]
) -> None:
    (box,), (reason,) = boxes_of([over], LABELS)
    assert (box.label, corners(box)) == ("dog", expected)
    assert reason == "region r1 reaches over the edge of the picture and is clipped"


@pytest.mark.parametrize(
    "whole", [region("dog", x=0, y=0, width=100, height=100), region("dog", x=60.0000001)]
)
def test_boxes_at_the_edges_are_no_news(whole: dict[str, object]) -> None:
    (box,), reasons = boxes_of([whole], LABELS)
    assert max(box.corners) <= 1
    assert not reasons


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (region("dog", width=0), "has no area (0 x 30 %)"),
        (region("dog", height=-3.0), "has no area (40 x -3 %)"),
        (region("dog", x=float("nan")), "has no number for x"),
        (region("dog", x="10"), "has no number for x"),
        (region("dog", y=None, width=True), "has no number for y, width"),
        (region("dog", height=float("inf")), "has no number for height"),
        (region("dog", height=10**400), "has no number for height"),
        (region("dog", rotation="90"), "has no number for rotation"),
        (region("dog", x=100), "covers nothing of the picture"),
        (region("dog", x=-50), "covers nothing of the picture"),
        (region("dog", x=-5, rotation=180), "covers nothing of the picture"),
        (region("dog", width=1e-8), "covers nothing of the picture"),
        (region("dog", x=1e306, width=1e307, rotation=90), "covers nothing of the picture"),
        (region("dog", value=None), "has no value"),
        (region("dog", value=[1, 2, 3, 4]), "has no value"),
    ],
)
def test_what_is_no_box_is_left_out_with_a_reason(bad: dict[str, object], reason: str) -> None:
    boxes, (said,) = boxes_of([bad], LABELS)
    assert boxes == ()
    assert said.startswith(f"region r1 {reason}")
    assert said.endswith("it is left out")


@pytest.mark.parametrize(
    ("strange", "labels", "reason"),
    [
        (region("pig"), [None], "has the label 'pig', which the label config does not hold; "),
        (region("cow"), [None], "has the label 'cow', which the label config does not hold; "),
        (region("pig", "dog"), ["dog"], "has the label 'pig', which the label config does not "),
        (region(), [None], "has no label"),
    ],
)
def test_labels_that_the_config_does_not_hold(
    strange: dict[str, object], labels: list[str | None], reason: str
) -> None:
    boxes, (said,) = boxes_of([strange], LABELS)
    assert [box.label for box in boxes] == labels
    assert said.startswith(f"region r1 {reason}")


def test_a_region_without_an_id_is_named_by_its_place() -> None:
    _, (said,) = boxes_of([region("dog"), region("dog", x="?", id=None)], LABELS)
    assert said.startswith("region 2 ")


def test_five_hundred_boxes() -> None:
    regions = [region("dog", x=n % 25 * 4, y=n // 25 * 5, width=3, height=4) for n in range(500)]
    boxes, reasons = boxes_of(regions, LABELS)
    assert (len(boxes), reasons) == (500, ())
    assert from_text(to_text(boxes)) == tuple(
        sorted(
            (Box(b.label, *(round(v, 7) for v in b.corners)) for b in boxes),
            key=lambda b: [str(v) for v in (b.label, *b.corners)],
        )
    )
    annotations = [BoxAnnotation(boxes, who) for who in range(3)]
    began = time.perf_counter()
    merged = Detection.vote(annotations)
    assert time.perf_counter() - began < 5
    assert merged is not None
    assert len(merged) == 500


# Several annotators ----------------------------------------------------------------------------

PLACE = Box("dog", 0.1, 0.1, 0.5, 0.5)


def moved(label: str | None, by: float) -> Box:
    return Box(label, 0.1 + by, 0.1, 0.5 + by, 0.5)


def said(who: int | None, *boxes: Box, minute: int = 0, truth: bool = False) -> BoxAnnotation:
    return BoxAnnotation(tuple(boxes), who, truth, START + timedelta(minutes=minute))


def merged(*annotations: BoxAnnotation) -> Boxes:
    found = Detection.vote(annotations)
    assert found is not None
    return found


def test_one_annotators_boxes_stay_as_they_are() -> None:
    twice = (PLACE, moved("dog", 0.01), moved("cat", 0.0))
    assert set(merged(said(1, *twice))) == set(twice)
    assert merged(said(1)) == ()
    assert Detection.vote([]) is None


def test_each_annotators_latest_counts() -> None:
    assert merged(said(1, PLACE, minute=1), said(1, minute=5)) == ()
    assert merged(said(1, minute=5), said(1, PLACE, minute=1)) == ()
    assert merged(said(None, PLACE), said(None)) == ()


def test_ground_truth_outvotes_any_number() -> None:
    assert merged(said(1, PLACE), said(2, PLACE), said(3, truth=True)) == ()


def test_boxes_of_most_are_kept_at_the_mean_of_those_who_agree() -> None:
    (box,) = merged(said(1, PLACE), said(2, moved("dog", 0.03)), said(3, moved("cat", 0.06)))
    assert box.label == "dog"
    assert box.corners == pytest.approx((0.115, 0.1, 0.515, 0.5))
    (box,) = merged(said(1, PLACE), said(2, moved("dog", 0.03)), said(3))
    assert box.label == "dog"


def test_half_of_the_annotators_leave_something_unknown() -> None:
    (box,) = merged(said(1, PLACE), said(2))
    assert (box.label, box.corners) == (None, PLACE.corners)
    found = merged(said(1, PLACE), said(2, PLACE), said(3), said(4))
    assert [box.label for box in found] == [None]


def test_a_tie_of_labels_leaves_something_unknown_in_the_middle() -> None:
    (box,) = merged(said(1, PLACE), said(2, moved("cat", 0.02)))
    assert box.label is None
    assert box.corners == pytest.approx((0.11, 0.1, 0.51, 0.5))


def test_what_fewer_than_half_drew_is_dropped() -> None:
    assert merged(said(1, PLACE), said(2), said(3)) == ()


def test_boxes_that_overlap_little_are_two() -> None:
    found = merged(said(1, PLACE), said(2, moved("dog", 0.2)))  # a third of both
    assert [box.label for box in found] == [None, None]


def test_one_annotators_neighbours_are_not_merged() -> None:
    near = moved("dog", 0.05)
    found = merged(said(1, PLACE, near), said(2, PLACE, near), said(3, PLACE, near))
    assert [box.corners for box in found] == [
        pytest.approx(PLACE.corners),
        pytest.approx(near.corners),
    ]


def test_labels_decide_which_of_two_boxes_at_one_place_is_meant() -> None:
    found = merged(
        said(1, PLACE, moved("cat", 0.0)), said(2, moved("cat", 0.02), moved("dog", 0.04))
    )
    assert sorted(str(box.label) for box in found) == ["cat", "dog"]


def test_a_chain_of_boxes_is_not_one_thing() -> None:
    # Each overlaps the next by half or more, the first and the last do not.
    chain = [said(who, moved("dog", 0.12 * who)) for who in range(3)]
    assert [box.label for box in merged(*chain)] == ["dog"]
    assert merged(*chain)[0].corners != pytest.approx(moved("dog", 0.12).corners)


def test_the_merge_does_not_depend_on_any_order() -> None:
    rng = random.Random(0)
    for _ in range(30):
        annotations = []
        for who in range(rng.randint(2, 5)):
            drawn = []
            for _ in range(rng.randint(0, 6)):
                x, y = rng.choice([0.1, 0.15, 0.2, 0.5]), rng.choice([0.1, 0.12, 0.6])
                label = rng.choice(["cat", "dog", None])
                drawn.append(Box(label, x, y, x + 0.3, y + 0.3))
            annotations.append(said(who, *drawn))
        first = merged(*annotations)
        for _ in range(5):
            mixed = [
                BoxAnnotation(
                    tuple(rng.sample(one.boxes, len(one.boxes))), one.annotator, False, one.at
                )
                for one in rng.sample(annotations, len(annotations))
            ]
            assert to_text(merged(*mixed)) == to_text(first)


# Back, and what is counted ---------------------------------------------------------------------


def test_the_region_is_label_studios() -> None:
    found = box_region(
        "dog",
        (0.1, 0.125, 0.5, 0.425),
        confidence=0.75,
        from_name="label",
        to_name="image",
        size=(32, 32),
    )
    assert found == {
        "id": found["id"],
        "from_name": "label",
        "to_name": "image",
        "type": "rectanglelabels",
        "original_width": 32,
        "original_height": 32,
        "image_rotation": 0,
        "value": {
            "x": pytest.approx(10),
            "y": pytest.approx(12.5),
            "width": pytest.approx(40),
            "height": pytest.approx(30),
            "rotation": 0,
            "rectanglelabels": ["dog"],
        },
        "score": 0.75,
    }


def test_a_regions_id_is_stable_and_its_own() -> None:
    def id_of(label: str, x: float, name: str = "label") -> object:
        made = box_region(label, (x, 0, 1, 1), confidence=0.5, from_name=name, to_name="image")
        return made["id"]

    assert id_of("dog", 0.25) == id_of("dog", 0.25)
    assert (
        len({id_of("dog", 0.25), id_of("cat", 0.25), id_of("dog", 0.3), id_of("dog", 0.25, "m")})
        == 4
    )


def test_labels_are_counted_by_box_and_by_image() -> None:
    texts = [
        to_text([PLACE, moved("dog", 0.4), moved("cat", 0.1), moved(None, 0.2)]),
        to_text([PLACE]),
        to_text([]),
    ]
    assert TASKS["RectangleLabels"] is Detection
    assert sorted(classes_in("detection", texts[0])) == ["cat", "dog", "dog"]
    assert class_counts("detection", texts) == {"dog": 3, "cat": 1}
    assert class_counts("detection", texts, once_an_image=True) == {"dog": 2, "cat": 1}
    assert all(is_usable("detection", text, ()) for text in texts)
    assert not is_usable("detection", "dog", ("dog",))


def test_a_choice_is_one_class() -> None:
    assert class_counts("classification", ["a", "b", "a"]) == {"a": 2, "b": 1}
    assert is_usable("classification", "a", {"a"})
    assert not is_usable("classification", "x", {"a"})
