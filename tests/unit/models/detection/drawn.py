"""Drawn rectangles on grey: red ones are common, blue ones rare."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from models.backbones.detector import Detector, DetectorSpec, load_detector
from models.detection.boxes import Box, Boxes
from models.recipes.box_set import BoxSet

NAMES = ("red", "blue")
_COLOURS = {"red": (220, 40, 30), "blue": (30, 40, 220), None: (20, 160, 60)}


def drawn(
    count: int, *, seed: int = 0, rare: float = 0.3, size: tuple[int, int] = (64, 48)
) -> tuple[list[Image.Image], list[Boxes]]:
    """Pictures of a place or two, in the left and in the right half."""
    rng = np.random.default_rng(seed)
    images, boxes = [], []
    for _ in range(count):
        image = Image.new("RGB", size, (128, 128, 128))
        some = []
        for half in range(2):
            if half and rng.random() < 0.5:
                continue
            x0, y0 = half / 2 + rng.uniform(0.02, 0.12), rng.uniform(0.05, 0.4)
            label = "blue" if rng.random() < rare else "red"
            some.append(paint(image, Box(label, x0, y0, x0 + 0.3, y0 + 0.45)))
        images.append(image)
        boxes.append(tuple(some))
    return images, boxes


def paint(image: Image.Image, box: Box) -> Box:
    """Draw a box."""
    x0, y0, x1, y1 = box.corners
    width, height = image.size
    corners = [x0 * width, y0 * height, x1 * width, y1 * height]
    ImageDraw.Draw(image).rectangle(corners, fill=_COLOURS[box.label])
    return box


def tiny(names: tuple[str, ...] = NAMES, *, seed: int = 0) -> Detector:
    """A small untrained detector of 64 pixels."""
    torch.manual_seed(seed)
    return load_detector(DetectorSpec(class_names=names, input_size=64, width=8, seed=seed))


def box_set(detector: Detector, images: Sequence[Image.Image], boxes: Sequence[Boxes]) -> BoxSet:
    """As a training holds them."""
    pictures = torch.stack([detector.pixels(image) for image in images])
    return BoxSet(pictures, tuple(boxes), detector.class_names)
