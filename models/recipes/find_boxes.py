"""What a detector's network finds on pictures: boxes, classes, confidences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.backbones.detector import extents
from models.detection.coco import MOST_FOUND
from models.networks.retinanet import Retina

_BATCH = 16


@torch.inference_mode()
def find_boxes(
    network: Retina,
    pictures: Tensor,
    scaled: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
    stages: Sequence[Tensor] | None = None,
) -> list[NDArray[np.float32]]:
    """Detect on all pictures; the network is put into evaluation mode and left there.

    Args:
        network: on ``device``.
        pictures: (N, 4, S, S) uint8, as ``Detector.pixels`` gives them.
        scaled: from pictures to what the network is fed, as ``Detector.scaled``.
        device: where to compute.
        stages: the trunk's maps of the pictures, where they are known.
    Returns: for each picture (D, 6): corners as shares of it, class index, confidence; the surest
        first, at most 100 of them, those below .05 left out as torchvision does.
    """
    network.eval()
    found = []
    for start in range(0, len(pictures), _BATCH):
        part = slice(start, start + _BATCH)
        maps = None if stages is None else [level[part].float().to(device) for level in stages]
        with torch.autocast(device.type, enabled=False):  # corners need more than half precision
            said = network(scaled(pictures[part])[:, :3].to(device), stages=maps)
        assert isinstance(said, list)  # in evaluation mode
        sizes = extents(pictures[part])
        found += [_rows(one, size) for one, size in zip(said, sizes, strict=True)]
    return found


def _rows(said: dict[str, Tensor], size: Tensor) -> NDArray[np.float32]:
    boxes = said["boxes"].float().cpu() / torch.cat([size, size])
    columns = [boxes.clamp(0, 1), said["labels"].cpu()[:, None], said["scores"].cpu()[:, None]]
    rows: NDArray[np.float32] = torch.cat([one.float() for one in columns], dim=1).numpy()
    order = np.argsort(-rows[:, 5], kind="stable")[:MOST_FOUND]
    return rows[order]
