"""ResNet-32 for 32x32 images: 464,154 parameters with ten classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut that has no parameters (option A)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.extra = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.extra:
            # Option A: every other pixel, the new channels zero on both sides.
            x = F.pad(
                x[:, :, :: self.stride, :: self.stride],
                (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2),
            )
        return F.relu(out + x)


class ResNet32(nn.Module):
    """Three stages of blocks with 16, 32 and 64 channels; 64 penultimate features.

    Args:
        num_classes: K, the width of the output.
        blocks: of each stage, n; 5 makes 32 layers, 1 makes 8.
    Source: He et al. 2015, arXiv:1512.03385, section 4.2.
    """

    input_size = 32
    feature_size = 64

    def __init__(self, num_classes: int = 10, *, blocks: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.stage1 = _stage(16, 16, stride=1, blocks=blocks)
        self.stage2 = _stage(16, 32, stride=2, blocks=blocks)
        self.stage3 = _stage(32, 64, stride=2, blocks=blocks)
        self.classifier = nn.Linear(self.feature_size, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, K) logits."""
        x = F.relu(self.bn1(self.conv1(images)))  # (N, 16, H, W)
        x = self.stage3(self.stage2(self.stage1(x)))  # (N, 64, H/4, W/4)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def _stage(channels_in: int, channels: int, *, stride: int, blocks: int) -> nn.Sequential:
    rest = (_Block(channels, channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(_Block(channels_in, channels, stride), *rest)
