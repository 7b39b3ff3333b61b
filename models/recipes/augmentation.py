"""Standard augmentations of pictures, from torchvision's v2 transforms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2

from models.errors import ConfigError

#: From (B, C, H, W) uint8 pictures to as many, each changed by draws of its own.
Augmentation = Callable[[Tensor], Tensor]


def make_augmentation(name: str, *, size_px: int) -> Augmentation:
    """How pictures are varied on the way into a training.

    Args:
        name: ``none``, ``flip`` (mirrored by chance), ``crop`` (shifted by up to an eighth of the
            side, as CIFAR's pictures are by 4 of 32), ``crop_flip`` (both), or ``affine`` (shifted,
            turned, scaled, sheared a little, the corners filled with grey).
        size_px: side of the square pictures.

    Raises: ConfigError: for another name.
    """
    crop = v2.RandomCrop(size_px, padding=max(1, size_px // 8))
    chosen: dict[str, v2.Transform | None] = {
        "none": None,
        "flip": v2.RandomHorizontalFlip(),
        "crop": crop,
        "crop_flip": v2.Compose([crop, v2.RandomHorizontalFlip()]),
        "affine": v2.RandomAffine(
            degrees=11,
            translate=(0.06, 0.06),
            scale=(0.88, 1.12),
            shear=8,
            interpolation=InterpolationMode.BILINEAR,
            fill=128,
        ),
    }
    if name not in chosen:
        raise ConfigError(f"found augmentation {name!r}; expected one of {', '.join(chosen)}")
    transform = chosen[name]
    if transform is None:
        return lambda pictures: pictures
    # A v2 transform draws once a call, so each picture is a call of its own.
    return lambda pictures: torch.stack([transform(picture) for picture in pictures])
