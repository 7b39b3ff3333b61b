"""What a detection is, given the boxes that somebody drew."""

from __future__ import annotations

import numpy as np

from models.detection.boxes import Box
from models.detection.matching import label
from models.detection.slots import Slots

NAMES = ("common", "rare")


def found(*boxes: tuple[float, float, float, float], picture: int = 0) -> Slots:
    count = len(boxes)
    return Slots(
        picture=np.full(count, picture, dtype=np.int64),
        features=np.zeros((count, 2), dtype=np.float32),
        boxes=np.asarray(boxes, dtype=np.float32).reshape(-1, 4),
        confidence=np.full(count, 0.5, dtype=np.float32),
        anchor=np.zeros(count, dtype=np.int64),
        logits=np.zeros((count, 2), dtype=np.float32),
    )


def test_a_detection_takes_the_class_of_the_box_it_lies_on() -> None:
    slots = found((0.1, 0.1, 0.3, 0.3), (0.6, 0.6, 0.8, 0.8), (0.0, 0.8, 0.1, 0.9))
    drawn = (Box("common", 0.1, 0.1, 0.3, 0.3), Box("rare", 0.6, 0.6, 0.8, 0.82))
    known = label(slots, [drawn], NAMES)
    assert known.targets.tolist() == [0, 1, 2]
    assert known.objects.tolist() == [1, 1]
    assert known.missed.tolist() == [0, 0]


def test_between_object_and_background_nothing_is_taught() -> None:
    # Widths 1 and .45 of the same height: overlap .45.
    slots = found((0.0, 0.0, 1.0, 0.5))
    known = label(slots, [(Box("common", 0.0, 0.0, 0.45, 0.5),)], NAMES)
    assert len(known.targets) == 0
    assert known.missed.tolist() == [1, 0]


def test_what_lies_in_an_unknown_place_teaches_nothing() -> None:
    slots = found((0.1, 0.1, 0.2, 0.2), (0.7, 0.7, 0.9, 0.9))
    known = label(slots, [(Box(None, 0.0, 0.0, 0.5, 0.5),)], NAMES)
    assert known.targets.tolist() == [2]
    assert known.slots.boxes[0, 0] == np.float32(0.7)


def test_a_known_box_in_an_unknown_place_counts() -> None:
    slots = found((0.1, 0.1, 0.2, 0.2))
    drawn = (Box(None, 0.0, 0.0, 0.5, 0.5), Box("rare", 0.1, 0.1, 0.2, 0.2))
    assert label(slots, [drawn], NAMES).targets.tolist() == [1]


def test_a_class_that_is_not_asked_for_is_an_unknown_place() -> None:
    slots = found((0.1, 0.1, 0.2, 0.2))
    known = label(slots, [(Box("gone", 0.1, 0.1, 0.2, 0.2),)], NAMES)
    assert len(known.targets) == 0
    assert known.objects.tolist() == [0, 0]


def test_a_picture_without_boxes_is_background_throughout() -> None:
    known = label(found((0.1, 0.1, 0.2, 0.2), (0.3, 0.3, 0.5, 0.5)), [()], NAMES)
    assert known.targets.tolist() == [2, 2]


def test_each_picture_is_compared_with_its_own_boxes() -> None:
    one, other = found((0.1, 0.1, 0.3, 0.3)), found((0.1, 0.1, 0.3, 0.3), picture=1)
    both = Slots(
        *(
            np.concatenate([getattr(one, name), getattr(other, name)])
            for name in ("picture", "features", "boxes", "confidence", "anchor", "logits")
        )
    )
    known = label(both, [(), (Box("rare", 0.1, 0.1, 0.3, 0.3),)], NAMES)
    assert known.targets.tolist() == [2, 1]
    assert known.pictures == 2


def test_a_box_that_nothing_found_is_missed() -> None:
    known = label(found(), [(Box("rare", 0.1, 0.1, 0.3, 0.3),)], NAMES)
    assert known.missed.tolist() == [0, 1]
    assert known.objects.tolist() == [0, 1]


def test_five_hundred_boxes_are_matched() -> None:
    places = [(i % 25 / 25, i // 25 / 20, (i % 25 + 0.8) / 25, (i // 25 + 0.8) / 20)
              for i in range(500)]  # fmt: skip
    drawn = tuple(Box("common" if i else "rare", *place) for i, place in enumerate(places))
    known = label(found(*places), [drawn], NAMES)
    assert np.bincount(known.targets).tolist() == [499, 1]
