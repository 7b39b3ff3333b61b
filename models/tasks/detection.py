"""Boxes on each image (``RectangleLabels``): regions to boxes, the merge of annotators, and back.

Label Studio stores percents of the picture. A rotation turns a box clockwise about its top left
corner, in pixels; quarter turns of it are boxes again, others are not and teach nothing.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import numpy as np

from models.detection.boxes import Box, Boxes, array, from_text, overlaps

__all__ = ["BoxAnnotation", "Detection", "box_region", "boxes_of"]

_SAME = 0.5  # overlap from which on boxes of two annotators are of one thing
_LEAST_SIDE = 1e-6  # share of the picture: a fiftieth of a pixel in one of 20,000
_UNSAID = 1e-5  # share by which a box may reach over the edge without a word: rounding
_TURN = 1e-6  # degrees
_SHOWN = 40

Corners = tuple[float, float, float, float]
_WHOLE: Corners = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class BoxAnnotation:
    """One annotation that was not skipped; without boxes it says that nothing is there.

    Attributes:
        boxes: what was drawn.
        annotator: who; None where unknown, which counts as one annotator.
        ground_truth: whether it was marked as the truth.
        at: when it was last changed; None is older than any time.
    """

    boxes: Boxes
    annotator: int | None = None
    ground_truth: bool = False
    at: datetime | None = None


class Detection:
    """Object detection. The label of an image is the text of its boxes."""

    tag = "RectangleLabels"
    name = "detection"

    @staticmethod
    def classes_in(label: str) -> tuple[str, ...]:
        """The class of each box of an image's label; of those that have one."""
        return _classes_in(label)

    @staticmethod
    def is_usable(label: str, classes: Collection[str]) -> bool:
        """Whether a label is of boxes; it then says where none of any class is, too."""
        return label.startswith(("[[", "[]"))

    @staticmethod
    def vote(annotations: Sequence[BoxAnnotation]) -> Boxes | None:
        """The boxes that count; None where nobody said anything.

        Ground truth first, else the latest of each annotator. Boxes of several annotators that
        overlap by half or more are one. It stays where more than half of the annotators drew it,
        with the class that most of those gave and the mean of their corners; where exactly half
        did, or no class leads, something unknown is there; where fewer did, nothing is.

        Returns: sorted; the same for annotations and boxes in any order.
        """
        if not annotations:
            return None
        truths = [annotation for annotation in annotations if annotation.ground_truth]
        latest: dict[int | None, BoxAnnotation] = {}
        # Ties in time keep their order: Label Studio lists the newer annotation later.
        for annotation in sorted(truths or annotations, key=_moment):
            latest[annotation.annotator] = annotation
        if len(latest) == 1:
            (only,) = latest.values()
            return tuple(sorted(only.boxes, key=_key))
        annotators = sorted(latest, key=lambda who: -1 if who is None else who)
        drawn = [sorted(latest[who].boxes, key=_key) for who in annotators]
        merged = (_agreed(cluster, len(drawn)) for cluster in _clusters(drawn))
        return tuple(sorted((box for box in merged if box is not None), key=_key))


@lru_cache(maxsize=65_536)
def _classes_in(label: str) -> tuple[str, ...]:
    """Remembered: labels are counted several times a round, and few change."""
    return tuple(box.label for box in from_text(label) if box.label is not None)


# Regions to boxes ------------------------------------------------------------------------------


def boxes_of(
    result: Sequence[Mapping[str, object]], labels_of_control: Mapping[str, Sequence[str]]
) -> tuple[Boxes, tuple[str, ...]]:
    """The boxes of one annotation.

    Args:
        result: its regions as Label Studio stores them, in percents. Those of other controls or
            kinds are left alone.
        labels_of_control: classes by the name of the control.

    Returns:
        The boxes, and a sentence on each region that is not taken as it is. Of one whose place is
        known, or whose class is not, a box without a class stays: nothing is learned there.
    """
    boxes: list[Box] = []
    reasons: list[str] = []
    for place, region in enumerate(result, start=1):
        control, value = region.get("from_name"), region.get("value")
        if region.get("type") != "rectanglelabels":
            continue
        if not isinstance(control, str) or control not in labels_of_control:
            continue
        name = f"region {str(region.get('id') or place)[:_SHOWN]}"
        if not isinstance(value, Mapping):
            reasons.append(f"{name} has no value, expected x, y, width and height; it is left out")
            continue
        corners, usable, said = _place(region, value)
        if said:
            reasons.append(f"{name} {said}")
        if corners is None:
            continue
        labels, unknown = _labels(value, labels_of_control[control])
        if unknown:
            reasons.append(f"{name} {unknown}")
        boxes += [Box(label, *corners) for label in (labels if usable else (None,))]
    return tuple(boxes), tuple(reasons)


def _place(
    region: Mapping[str, object], value: Mapping[str, object]
) -> tuple[Corners | None, bool, str]:
    """Corners within the picture, whether the box is as it was drawn, and what is to be said.

    Without corners the region is left out.
    """
    names = ("x", "y", "width", "height")
    numbers = {name: _number(value.get(name)) for name in names}
    missing = [name for name, number in numbers.items() if number is None]
    if missing:
        return None, False, f"has no number for {', '.join(missing)}; it is left out"
    x, y, width, height = (number for number in numbers.values() if number is not None)
    if width <= 0 or height <= 0:
        return None, False, f"has no area ({width:g} x {height:g} %); it is left out"
    turned = _number(region.get("image_rotation") or 0)
    if turned is None or _off(turned, 360) > _TURN:
        said = "was drawn on a turned picture, which is not read; nothing is learned of this image"
        return _WHOLE, False, said
    rotation = _number(value.get("rotation") or 0)
    if rotation is None:
        return None, False, "has no number for rotation; it is left out"
    size = _number(region.get("original_width")), _number(region.get("original_height"))
    corners = _hull((x, y, width, height), rotation, size)
    if corners is None:
        said = f"is turned by {rotation:g} degrees and does not say how large the picture is; "
        return _WHOLE, False, said + "nothing is learned of this image"
    inside, clipped = _clipped(corners)
    if inside is None:
        return None, False, "covers nothing of the picture; it is left out"
    if _off(rotation, 90) > _TURN:
        said = f"is turned by {rotation:g} degrees, expected upright; nothing is learned there"
        return inside, False, said
    return inside, True, "reaches over the edge of the picture and is clipped" if clipped else ""


def _hull(box: Corners, rotation: float, size: tuple[float | None, float | None]) -> Corners | None:
    """The upright corners, as shares, around a box in percents that is turned.

    Args:
        box: x, y, width, height in percents.
        rotation: degrees, clockwise about the top left corner.
        size: pixels of the picture, which tell its shape; None of it known: None, if they matter.
    """
    x, y, width, height = (number / 100 for number in box)
    if _off(rotation, 360) <= _TURN:
        return x, y, x + width, y + height
    across, down = size
    if across is None or down is None or across <= 0 or down <= 0:
        return None
    angle = math.radians(math.remainder(rotation, 360))
    cos, sin = math.cos(angle), math.sin(angle)
    if _off(rotation, 90) <= _TURN:
        cos, sin = round(cos), round(sin)
    shape = down / across
    # A step along the box's width and one along its height, as shares of the picture.
    right = width * cos, width * sin / shape
    below = -height * sin * shape, height * cos
    xs = [x, x + right[0], x + below[0], x + right[0] + below[0]]
    ys = [y, y + right[1], y + below[1], y + right[1] + below[1]]
    return min(xs), min(ys), max(xs), max(ys)


def _clipped(corners: Corners) -> tuple[Corners | None, bool]:
    """The part within the picture, None where there is none, and whether some was cut off."""
    if not all(map(math.isfinite, corners)):
        return None, True
    x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in corners)
    if x1 - x0 < _LEAST_SIDE or y1 - y0 < _LEAST_SIDE:
        return None, True
    cut = max(abs(new - old) for new, old in zip((x0, y0, x1, y1), corners, strict=True))
    return (x0, y0, x1, y1), cut > _UNSAID


def _labels(
    value: Mapping[str, object], allowed: Sequence[str]
) -> tuple[tuple[str | None, ...], str]:
    """The classes of a region, None for what is none of the config's, and why."""
    given = value.get("rectanglelabels")
    names = list(dict.fromkeys(map(str, given))) if isinstance(given, list) else []
    if not names:
        return (None,), "has no label; nothing is learned there"
    known = [name for name in names if name in allowed]
    strange = [name for name in names if name not in allowed]
    if not strange:
        return tuple(known), ""
    shown = ", ".join(repr(name[:_SHOWN]) for name in strange[:3])
    said = f"has the label {shown}, which the label config does not hold"
    # What is known of the place is right all the same.
    return (tuple(known) or (None,)), said if known else f"{said}; nothing is learned there"


def _number(value: object) -> float | None:
    """A finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _off(rotation: float, step: float) -> float:
    """Degrees to the nearest multiple of ``step``."""
    return abs(math.remainder(rotation, step))


# Several annotators ----------------------------------------------------------------------------


@dataclass
class _Cluster:
    """Boxes of one thing, one an annotator at most: annotator and number of the box."""

    members: list[tuple[int, int]]
    boxes: list[Box]


def _clusters(drawn: Sequence[Sequence[Box]]) -> Iterator[list[Box]]:
    """Group the boxes of annotators: the nearest pairs first, those of one class before others.

    Two groups become one where no annotator is in both and every two of their boxes overlap.
    """
    near = dict(_near_pairs(drawn))
    of = {
        (who, number): _Cluster([(who, number)], [box])
        for who, boxes in enumerate(drawn)
        for number, box in enumerate(boxes)
    }
    for pair in sorted(near, key=lambda pair: (near[pair], pair)):
        one, other = of[pair[0]], of[pair[1]]
        if one is other or {who for who, _ in one.members} & {who for who, _ in other.members}:
            continue
        if all(tuple(sorted((a, b))) in near for a in one.members for b in other.members):
            one.members += other.members
            one.boxes += other.boxes
            of.update(dict.fromkeys(other.members, one))
    for cluster in {id(cluster): cluster for cluster in of.values()}.values():
        yield cluster.boxes


def _near_pairs(
    drawn: Sequence[Sequence[Box]],
) -> Iterator[tuple[tuple[tuple[int, int], tuple[int, int]], tuple[bool, float]]]:
    """Pairs of boxes of two annotators that may be of one thing, and what sorts the best first."""
    for first, boxes in enumerate(drawn):
        for second in range(first + 1, len(drawn)):
            others = drawn[second]
            shared = overlaps(
                np.asarray(array(boxes), np.float64), np.asarray(array(others), np.float64)
            )
            for i, j in np.argwhere(shared >= _SAME).tolist():
                order = boxes[i].label != others[j].label, -round(float(shared[i, j]), 9)
                yield ((first, i), (second, j)), order


def _agreed(boxes: Sequence[Box], annotators: int) -> Box | None:
    """What a group of boxes comes to."""
    if 2 * len(boxes) < annotators:
        return None
    counts = Counter(box.label for box in boxes)
    most = max(counts.values())
    leading = [label for label, count in counts.items() if count == most]
    label = leading[0] if len(leading) == 1 and 2 * len(boxes) > annotators else None
    said = [box for box in boxes if label is None or box.label == label]
    columns = zip(*(box.corners for box in said), strict=True)
    x0, y0, x1, y1 = (math.fsum(column) / len(said) for column in columns)
    return Box(label, x0, y0, x1, y1)


def _key(box: Box) -> tuple[bool, str, Corners]:
    return box.label is None, box.label or "", box.corners


def _moment(annotation: BoxAnnotation) -> float:
    return annotation.at.timestamp() if annotation.at is not None else float("-inf")


# Boxes to regions ------------------------------------------------------------------------------


def box_region(
    label: str,
    corners: Sequence[float],
    *,
    confidence: float,
    from_name: str,
    to_name: str,
    size: tuple[int, int] | None = None,
) -> dict[str, object]:
    """A box as one region of Label Studio's result JSON.

    Args:
        label: the class name, as the label config has it.
        corners: x0, y0, x1, y1 as shares of the picture.
        confidence: in [0, 1].
        from_name: name of the ``RectangleLabels`` tag.
        to_name: name of the ``Image`` tag.
        size: width and height of the picture in pixels, where they are known.

    Returns: the region; the same box has the same id.
    """
    x0, y0, x1, y1 = (min(max(float(value), 0.0), 1.0) for value in corners)
    named = f"{from_name}|{label}|" + "|".join(f"{value:.7f}" for value in (x0, y0, x1, y1))
    region: dict[str, object] = {
        "id": hashlib.sha256(named.encode()).hexdigest()[:10],
        "from_name": from_name,
        "to_name": to_name,
        "type": "rectanglelabels",
        "image_rotation": 0,
        "value": {
            "x": 100 * x0,
            "y": 100 * y0,
            "width": 100 * (x1 - x0),
            "height": 100 * (y1 - y0),
            "rotation": 0,
            "rectanglelabels": [label],
        },
        "score": min(max(float(confidence), 0.0), 1.0),
    }
    if size is not None:
        region |= {"original_width": int(size[0]), "original_height": int(size[1])}
    return region
