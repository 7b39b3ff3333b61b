"""The tiles of BCCD: pixels, boxes, and what a frozen pretrained trunk makes of them, kept once.

292 pictures of 640 x 480 px, 12 tiles of 160 px each. A box belongs to a tile that holds at least
half of its area; a smaller part is a place that teaches nothing, and is remembered: to the eye a
tile with a third of a white cell shows one, to the count it does not.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.stage import say
from demo.box_data import read_boxes
from demo.box_tiles import tiles
from models.backbones.detector import DetectorSpec, load_detector
from models.detection.boxes import Boxes, from_text, to_text
from models.files import write_file, write_text
from models.recipes.box_set import BoxSet, trunk_maps

SIDE, NAMES = 160, ("RBC", "WBC", "Platelets")
_TENSORS, _BOXES = "tiles.safetensors", "boxes.txt"
_LEVELS = 3


@dataclass(frozen=True)
class Tiles:
    """All tiles.

    Attributes:
        picture: (N,) which picture a tile is of.
        pixels: (N, 4, S, S) uint8, as the detector takes them.
        maps: for each stage of the trunk (2, N, C, h, w) float16, of tiles and mirror images.
        boxes: N sets.
        holds: (N, K) whether a tile holds an object of a class.
        shows: (N, K) whether it holds part of one, half or less.
    """

    picture: NDArray[np.int64]
    pixels: Tensor
    maps: list[Tensor]
    boxes: tuple[Boxes, ...]
    holds: NDArray[np.bool_]
    shows: NDArray[np.bool_]

    def part(self, rows: NDArray[np.int64]) -> BoxSet:
        """Some tiles as a training holds them."""
        return BoxSet(
            self.pixels[rows],
            tuple(self.boxes[row] for row in rows),
            NAMES,
            tuple(level[:, rows] for level in self.maps),
        )


def spec(seed: int) -> DetectorSpec:
    """EfficientNet-Lite0 with its ImageNet weights, a pyramid and towers of 64 channels."""
    return DetectorSpec(
        architecture="efficientnet_lite0",
        weights="DEFAULT",
        class_names=NAMES,
        input_size=SIDE,
        seed=seed,
    )


def read_tiles(archive: Path, cache: Path) -> Tiles:
    """Cut them and run the trunk, or read what was kept; the same file serves all processes."""
    if not (cache / _BOXES).exists():
        _make(archive, cache)
    kept = load_file(cache / _TENSORS)
    lines = [line.split("\t") for line in (cache / _BOXES).read_text().splitlines()]
    boxes = tuple(from_text(line[1]) for line in lines)
    parts = [from_text(line[2]) for line in lines]
    holds = _which(boxes)
    return Tiles(
        picture=np.asarray([int(line[0]) for line in lines]),
        pixels=kept["pixels"],
        maps=[kept[f"maps.{level}"] for level in range(_LEVELS)],
        boxes=boxes,
        holds=holds,
        shows=_which(parts) & ~holds,
    )


def _which(boxes: tuple[Boxes, ...] | list[Boxes]) -> NDArray[np.bool_]:
    return np.asarray([[any(b.label == name for b in some) for name in NAMES] for some in boxes])


def _make(archive: Path, cache: Path) -> None:
    detector = load_detector(spec(0))
    lines, pixels = [], []
    for number, image in enumerate(read_boxes(archive).images):
        picture = Image.open(io.BytesIO(image.load())).convert("RGB")
        whole = tiles(picture, image.boxes, SIDE)
        every = tiles(picture, image.boxes, SIDE, least_share=0.0)
        for tile, parts in zip(whole, every, strict=True):
            lines.append(f"{number}\t{to_text(tile.boxes)}\t{to_text(parts.boxes)}")
            pixels.append(detector.pixels(tile.image))
    stacked = torch.stack(pixels)
    say(f"{len(lines)} tiles; the trunk looks at them and at their mirror images")
    maps = trunk_maps(detector, stacked, batch=32)
    tensors = {"pixels": stacked, **{f"maps.{n}": level for n, level in enumerate(maps)}}
    cache.mkdir(parents=True, exist_ok=True)
    write_file(cache / _TENSORS, lambda path: save_file(tensors, path))
    write_text(cache / _BOXES, "".join(f"{line}\n" for line in lines))
