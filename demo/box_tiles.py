"""A picture cut into tiles, its boxes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from PIL.Image import Image

from models.detection.boxes import Box, Boxes

# What is seen of an object in a strip narrower than this says nothing, not even "unknown".
_LEAST_PX: Final = 1.0


@dataclass(frozen=True)
class Tile:
    """One tile.

    Attributes:
        image: its pixels.
        left_px, top_px: where it lies in the picture.
        boxes: as shares of the tile; label None for the smaller part of a cut object.
    """

    image: Image
    left_px: int
    top_px: int
    boxes: Boxes


def tiles(
    image: Image, boxes: Sequence[Box], side_px: int, least_share: float = 0.5
) -> tuple[Tile, ...]:
    """A grid of tiles that cover the picture, equal up to a pixel, row by row.

    Args:
        image: upright, as the boxes are.
        boxes: as shares of the picture.
        side_px: about how wide and high a tile is to be, 1 or more; a smaller picture is one tile.
        least_share: a box keeps its label in a tile that holds at least this share of its area, in
            [0, 1]. A smaller part becomes a box without a label: to a detector it is neither an
            object nor background.

    Raises:
        ValueError: ``side_px`` is below 1.
    """
    if side_px < 1:
        raise ValueError(f"found side_px {side_px}, expected 1 or more")
    columns, rows = _edges(image.width, side_px), _edges(image.height, side_px)
    return tuple(
        Tile(
            image.crop((left, top, right, bottom)),
            left,
            top,
            _within(boxes, (left, top, right, bottom), image.size, least_share),
        )
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    )


def _edges(length_px: int, side_px: int) -> list[int]:
    count = max(1, round(length_px / side_px))
    return [round(length_px * number / count) for number in range(count + 1)]


def _within(
    boxes: Sequence[Box],
    tile: tuple[int, int, int, int],
    size: tuple[int, int],
    least_share: float,
) -> Boxes:
    """What of the boxes lies in a tile, as shares of it."""
    left, top, right, bottom = tile
    width, height = right - left, bottom - top
    found: list[Box] = []
    for box in boxes:
        # In pixels of the tile.
        x0, x1 = (min(max(x * size[0] - left, 0.0), width) for x in (box.x0, box.x1))
        y0, y1 = (min(max(y * size[1] - top, 0.0), height) for y in (box.y0, box.y1))
        if min(x1 - x0, y1 - y0) < _LEAST_PX:
            continue
        share = (x1 - x0) * (y1 - y0) / (box.area * size[0] * size[1])
        # A box that lies in the tile whole has a share of 1 but for rounding.
        label = box.label if share >= least_share - 1e-9 else None
        found.append(Box(label, x0 / width, y0 / height, x1 / width, y1 / height))
    return tuple(found)
