"""COCO: one JSON file with ``images``, ``annotations`` and ``categories``.

A ``bbox`` is x, y, width and height in pixels.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping

from demo.file_tree import BoxDataError
from demo.raw_boxes import RawBox, RawPicture

_PARTS = ("images", "annotations", "categories")


def read_coco(source: str, content: bytes) -> list[RawPicture] | None:
    """The pictures of one JSON file; None where it is JSON of something else.

    An area marked ``iscrowd`` holds many uncounted objects and becomes a box without a class.

    Raises:
        BoxDataError: it cannot be read; the message names the file.
    """
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BoxDataError(f"{source} cannot be read: {error}") from error
    if not isinstance(whole, dict) or not all(isinstance(whole.get(p), list) for p in _PARTS):
        return None
    try:
        return list(_pictures(source, whole))
    except (KeyError, TypeError, ValueError) as error:
        raise BoxDataError(
            f"{source} is not COCO: {type(error).__name__} {error}; expected images with id and "
            "file_name, categories with id and name, annotations with image_id, category_id, bbox"
        ) from error


def _pictures(source: str, whole: Mapping[str, list[dict[str, object]]]) -> Iterator[RawPicture]:
    names = {item["id"]: str(item["name"]) for item in whole["categories"]}
    boxes: dict[object, list[RawBox]] = defaultdict(list)
    notes: dict[object, list[str]] = defaultdict(list)
    for item in whole["annotations"]:
        label = names[item["category_id"]]
        corners = _corners(item.get("bbox"))
        if corners is None:
            notes[item["image_id"]].append(f"{label}: its bbox is not four numbers: left out")
            continue
        crowd = bool(item.get("iscrowd"))
        boxes[item["image_id"]].append(RawBox(None if crowd else label, *corners))
    known = {item["id"] for item in whole["images"]}
    if stray := boxes.keys() - known:
        raise ValueError(f"{len(stray)} images with boxes are not listed under images")
    for item in whole["images"]:
        number = item["id"]
        width, height = (_size(item.get(side)) for side in ("width", "height"))
        yield RawPicture(
            source, str(item["file_name"]), width, height,
            tuple(boxes[number]), tuple(notes[number]),
        )  # fmt: skip


def _corners(bbox: object) -> tuple[float, float, float, float] | None:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    try:
        x, y, width, height = (float(value) for value in bbox)
    except (TypeError, ValueError):
        return None
    found = (x, y, x + width, y + height)
    return found if all(map(math.isfinite, found)) else None


def _size(value: object) -> int:
    return round(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0
