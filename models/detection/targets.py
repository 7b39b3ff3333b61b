"""Boxes of a label as what a detector is trained on: pixels of its input and class numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.detection.boxes import Boxes, array

Target = dict[str, Tensor]


def target_of(boxes: Boxes, *, class_names: Sequence[str], extent: Tensor) -> Target:
    """``boxes`` (B, 4) and ``labels`` (B,); boxes of other classes or of none are ``unknown``.

    Args:
        boxes: corners as shares of the picture.
        class_names: K classes.
        extent: (2,) width and height in pixels of what is picture in the detector's input.
    """
    index = {name: number for number, name in enumerate(class_names)}
    known = [box for box in boxes if box.label in index]
    unknown = [box for box in boxes if box.label not in index]
    scale = torch.cat([extent, extent]).cpu()
    return {
        "boxes": torch.from_numpy(array(known)) * scale,
        "labels": torch.tensor([index[str(box.label)] for box in known], dtype=torch.int64),
        "unknown": torch.from_numpy(array(unknown)) * scale,
    }


def mirrored(target: Target, extent: Tensor) -> Target:
    """The same of the picture mirrored left to right, where it lies at the left as before."""

    def turn(boxes: Tensor) -> Tensor:
        width = float(extent[0])
        return torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)

    return target | {name: turn(target[name]) for name in ("boxes", "unknown")}


def mirrored_pictures(pictures: Tensor, extents: Tensor) -> Tensor:
    """(N, C, S, S) inputs mirrored left to right within their extents of (N, 2) pixels."""
    found = pictures.clone()
    for number, (width, _) in enumerate(extents.long().tolist()):
        found[number, :, :, :width] = pictures[number, :, :, :width].flip(-1)
    return found


def placed(target: Target, device: torch.device) -> Target:
    """The same on a device."""
    return {name: value.to(device) for name, value in target.items()}
