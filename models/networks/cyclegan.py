"""CycleGAN's generator and discriminator, at the published size or light ones for small pictures.

Pictures are on [-1, 1] here. Instance normalisation has no statistics to keep, so training and
evaluation mode are the same.

Source: Zhu et al. 2017, arXiv:1703.10593, section 7.2; weights start from N(0, .02).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_STANDARD_DEVIATION = 0.02  # of the first weights
_INSIDE = 0.99  # of the bounds, where the inverse of tanh is infinite


class ResNetGenerator(nn.Module):
    """Two halvings of the side, residual blocks, two doublings; from a picture to a picture.

    Args:
        blocks: residual blocks at a quarter of the side; published: 9 (6 below 256 px).
        width: channels at full size, four times as many in the blocks; published: 64.
        skip: learn what to change only, so that a short training begins with pictures that are
            left as they are; published: no.
    """

    def __init__(self, *, blocks: int = 9, width: int = 64, skip: bool = False) -> None:
        super().__init__()
        self.skip = skip
        layers: list[nn.Module] = [nn.ReflectionPad2d(3), *_normed(nn.Conv2d(3, width, 7))]
        for channels in (width, 2 * width):
            layers += _normed(nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1))
        layers += [_Block(4 * width) for _ in range(blocks)]
        for channels in (4 * width, 2 * width):
            layers += _normed(
                nn.ConvTranspose2d(
                    channels, channels // 2, 3, stride=2, padding=1, output_padding=1
                )
            )
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7)]
        self.layers = nn.Sequential(*layers)
        self.apply(_start)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 3, H, W), both on [-1, 1]."""
        height, width = images.shape[-2:]
        filled = F.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        change: Tensor = self.layers(filled)[..., :height, :width]
        return torch.tanh(change + torch.atanh(_INSIDE * images) if self.skip else change)


class PatchDiscriminator(nn.Module):
    """Says of each patch of a picture whether it is real; scores are not squashed.

    Args:
        halvings: convolutions of stride 2; 3 see patches of 70 px as published, 2 of 34, 1 of 16.
        width: channels after the first convolution; published: 64.
    """

    def __init__(self, *, halvings: int = 3, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        channels = width
        for number in range(1, halvings + 1):
            wider = min(2 * channels, 8 * width)
            stride = 2 if number < halvings else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        layers.append(nn.Conv2d(channels, 1, 4, padding=1))
        self.layers = nn.Sequential(*layers)
        self.apply(_start)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) on [-1, 1] to (N, 1, h, w) scores."""
        scores: Tensor = self.layers(images)
        return scores


def halvings_for(size_px: int) -> int:
    """Patches of 70 px from 128 px on, of 34 from 32, of 16 below.

    At 32 px, patches of 16 were fooled by pictures that were left almost as they were.
    """
    return 3 if size_px >= 128 else 2 if size_px >= 32 else 1


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_normed(nn.Conv2d(channels, channels, 3)),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.layers(x)
        return x + changed


def _normed(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(convolution.out_channels), nn.ReLU()]


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, std=_STANDARD_DEVIATION)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
