"""Boxes as arrays and as the one text that the mirror keeps of an image's label.

Coordinates are x0, y0, x1, y1 as shares of the upright picture's width and height, in [0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError

_DIGITS = 7  # of a share: below a thousandth of a pixel in the largest picture that we open


@dataclass(frozen=True)
class Box:
    """One box of an image's label.

    Attributes:
        label: the class; None where something is that we cannot use (a rotated box, annotators
            that disagree, a class that the label config lacks). Such a place teaches nothing: it
            is neither an object nor background.
        x0, y0, x1, y1: corners as shares of the picture, 0 <= x0 < x1 <= 1.
    """

    label: str | None
    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def area(self) -> float:
        """Share of the picture."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)


Boxes = tuple[Box, ...]


def to_text(boxes: Sequence[Box]) -> str:
    """The label of an image as text: equal boxes in any order give equal text; none is ``[]``."""
    rows = [[box.label, *(round(value, _DIGITS) for value in box.corners)] for box in boxes]
    return json.dumps(sorted(rows, key=lambda row: [str(value) for value in row]))


def from_text(text: str) -> Boxes:
    """The boxes that ``to_text`` wrote.

    Raises: ShapeError: if the text is something else.
    """
    try:
        rows = json.loads(text)
        return tuple(
            Box(None if row[0] is None else str(row[0]), *(float(value) for value in row[1:5]))
            for row in rows
        )
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ShapeError(
            f"found {text[:80]!r} for the boxes of an image, expected [[class, x0, "
            "y0, x1, y1], ...]; sync reads it again"
        ) from error


def among(boxes: Sequence[Box], classes: Collection[str]) -> Boxes:
    """The same boxes; those of other classes teach nothing (label None)."""
    known = frozenset(classes)
    return tuple(box if box.label in known else replace(box, label=None) for box in boxes)


def array(boxes: Sequence[Box]) -> NDArray[np.float32]:
    """(B, 4) corners."""
    return np.asarray([box.corners for box in boxes], dtype=np.float32).reshape(-1, 4)


def overlaps(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """(A, B) intersection over union of (A, 4) and (B, 4) boxes; 0 where both have no area."""
    shared, first, second = _areas(one, other)
    union = first[:, None] + second[None, :] - shared
    found: NDArray[np.float64] = np.divide(
        shared, union, out=np.zeros_like(shared), where=union > 0
    )
    return found


def covered(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """(A, B) share of each of (A, 4) boxes that lies within each of (B, 4)."""
    shared, first, _ = _areas(one, other)
    found: NDArray[np.float64] = np.divide(
        shared, first[:, None], out=np.zeros_like(shared), where=first[:, None] > 0
    )
    return found


def _areas(
    one: NDArray[np.floating], other: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    a = np.asarray(one, dtype=np.float64).reshape(-1, 4)
    b = np.asarray(other, dtype=np.float64).reshape(-1, 4)
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    end = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(end - corner, 0, None).prod(axis=2)
    return shared, (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)
