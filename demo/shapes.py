"""Drawn pictures with boxes: discs and squares on noise, now and then a triangle or a star.

For tests from end to end that need no data: each shape has a colour of its own, so that a small
detector finds them after a short training from scratch.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from demo.box_set import BoxPicture, BoxSet
from models.detection.boxes import Box

COMMON: Final = ("disc", "square")
RARE: Final = ("star", "triangle")
CLASSES: Final = (*COMMON, *RARE)

_COLOURS: Final = {
    "disc": (40, 90, 220),
    "square": (40, 170, 60),
    "star": (245, 205, 30),
    "triangle": (215, 45, 45),
}
_CORNERS: Final = {"triangle": 3, "star": 10}
_SIDE_PX: Final = (30, 52)
_TRIES: Final = 50


def draw_picture(
    rng: np.random.Generator, shapes: Sequence[str], *, side_px: int = 144
) -> BoxPicture:
    """One picture with these shapes, apart from each other, in any place and size.

    Args:
        rng: chooses everything else.
        shapes: of ``CLASSES``, six at most.
        side_px: width and height, 120 or more.

    Raises:
        ValueError: they do not fit in.
    """
    noise = rng.normal(rng.uniform(110, 150), 12, (side_px, side_px, 3))
    image = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    places = _places(rng, len(shapes), side_px)
    boxes: list[Box] = []
    for shape, (left, top, size) in zip(shapes, places, strict=True):
        mask = Image.new("L", (side_px, side_px))
        _draw(ImageDraw.Draw(mask), shape, left, top, size, float(rng.uniform(0, 2 * math.pi)))
        colour = np.asarray(_COLOURS[shape]) + rng.normal(0, 10, 3)
        image.paste(tuple(int(value) for value in np.clip(colour, 0, 255)), mask=mask)
        # What was drawn, to the pixel: a turned triangle does not fill its place.
        found = mask.getbbox()
        assert found is not None, "every shape has an area"
        boxes.append(Box(shape, *(value / side_px for value in found)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return BoxPicture(
        f"drawn-{rng.bytes(6).hex()}.png", buffer.getvalue(), side_px, side_px, tuple(boxes)
    )


def draw_shapes(
    seed: int,
    *,
    seed_pictures: int = 40,
    rare_seed_pictures: int = 3,
    pool_size: int = 100,
    rare_in_pool: int = 12,
    side_px: int = 144,
) -> BoxSet:
    """A project's worth of pictures, each with one to three common shapes.

    Args:
        seed: decides everything.
        seed_pictures: labeled from the start, the rare ones included.
        rare_seed_pictures: of these, with each rare shape.
        pool_size: pictures to be labeled.
        rare_in_pool: of these, with a rare shape, half of them with each.
        side_px: width and height of all.
    """
    rng = np.random.default_rng(seed)

    def pictures(count: int, rare: Sequence[str]) -> Iterator[BoxPicture]:
        extra = [(shape,) for shape in rare] + [()] * (count - len(rare))
        for place in rng.permutation(count):
            common = rng.choice(COMMON, int(rng.integers(1, 4)), p=(0.6, 0.4))
            shapes = (*extra[place], *(str(shape) for shape in common))
            yield draw_picture(rng, shapes, side_px=side_px)

    return BoxSet(
        seeds=tuple(pictures(seed_pictures, RARE * rare_seed_pictures)),
        pool=tuple(pictures(pool_size, (RARE * rare_in_pool)[:rare_in_pool])),
        classes=CLASSES,
        rare=RARE,
    )


def _places(rng: np.random.Generator, count: int, side_px: int) -> list[tuple[int, int, int]]:
    """Left, top and size of squares that do not touch."""
    found: list[tuple[int, int, int]] = []
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        size = int(rng.integers(*_SIDE_PX))
        left, top = (int(value) for value in rng.integers(0, side_px - size, 2))
        if all(
            left + size < x or x + s < left or top + size < y or y + s < top for x, y, s in found
        ):
            found.append((left, top, size))
    if len(found) < count:
        raise ValueError(f"{count} shapes do not fit into {side_px} x {side_px} px")
    return found


def _draw(
    draw: ImageDraw.ImageDraw, shape: str, left: int, top: int, size: int, turn: float
) -> None:
    """One shape in white within a square of ``size`` pixels."""
    square = (left, top, left + size - 1, top + size - 1)
    if shape == "disc":
        draw.ellipse(square, fill=255)
    elif shape == "square":
        draw.rectangle(square, fill=255)
    else:
        centre, radius = (left + (size - 1) / 2, top + (size - 1) / 2), (size - 1) / 2
        count = _CORNERS[shape]
        radii = [radius * (0.45 if shape == "star" and n % 2 else 1.0) for n in range(count)]
        angles = [turn + 2 * math.pi * n / count for n in range(count)]
        draw.polygon(
            [
                (centre[0] + r * math.cos(angle), centre[1] + r * math.sin(angle))
                for r, angle in zip(radii, angles, strict=True)
            ],
            fill=255,
        )
