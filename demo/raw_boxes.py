"""Boxes in pixels as a file of annotations gives them, and the same as shares of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.detection.boxes import Box, Boxes

# Pictures that were scaled after they were annotated keep their proportions up to rounding.
_SAME_SHAPE: Final = 0.02


@dataclass(frozen=True)
class RawBox:
    """One box as it was written down.

    Attributes:
        label: the class; None for an area that holds something uncounted (COCO's ``iscrowd``).
        x0, y0, x1, y1: corners in pixels, the upper left corner of the picture being 0, 0.
    """

    label: str | None
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class RawPicture:
    """What a file of annotations says of one picture.

    Attributes:
        source: the file that says it.
        picture: name of the picture as it stands there; may be empty or have folders.
        width_px, height_px: its size as it stands there; 0 where nothing does.
        boxes: all of them.
        notes: what was left out, one sentence each.
    """

    source: str
    picture: str
    width_px: int
    height_px: int
    boxes: tuple[RawBox, ...]
    notes: tuple[str, ...] = ()


class WrongSizeError(ValueError):
    """The annotations are of a picture of another shape."""


def as_shares(
    raw: Sequence[RawBox], *, of: tuple[int, int], told: tuple[int, int]
) -> tuple[Boxes, tuple[str, ...]]:
    """Boxes as shares of the picture, clipped to it, and a note for each that was changed.

    Args:
        raw: corners in pixels of a picture of the size ``told``.
        of: width and height of the picture itself, upright.
        told: the size that the annotations name; (0, 0) where they name none.

    Raises:
        WrongSizeError: the two sizes have other proportions.
    """
    width, height = told if min(told) > 0 else of
    if abs(width * of[1] - height * of[0]) > _SAME_SHAPE * width * of[1]:
        raise WrongSizeError(
            f"the annotations are of a picture of {width} x {height} px, found one of "
            f"{of[0]} x {of[1]} px"
        )
    boxes: list[Box] = []
    notes: list[str] = []
    for box in raw:
        corners = (box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height)
        x0, y0, x1, y1 = (min(max(value, 0.0), 1.0) for value in corners)
        # Written so that a NaN is left out too.
        if not (x0 < x1 and y0 < y1):
            notes.append(f"{_named(box)} has no area within the picture: left out")
            continue
        if (x0, y0, x1, y1) != corners:
            notes.append(f"{_named(box)} reaches beyond the picture: clipped")
        boxes.append(Box(box.label, x0, y0, x1, y1))
    return tuple(boxes), tuple(notes)


def _named(box: RawBox) -> str:
    corners = ", ".join(f"{value:g}" for value in (box.x0, box.y0, box.x1, box.y1))
    return f"{box.label or 'a box'} at {corners} px"
