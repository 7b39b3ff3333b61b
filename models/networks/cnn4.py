"""The four-layer convolutional classifier of MMM22's released code, for 32x32 images."""

from __future__ import annotations

from torch import Tensor, nn


class Cnn4(nn.Module):
    """Four 3x3 convolutions and two linear layers; 256 penultimate features.

    Args:
        num_classes: K, the width of the output.
    Source: Singh et al. 2021, arXiv:2112.07835, the classifier of its released code.
    """

    input_size = 32
    feature_size = 256

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout2d(0.05),
            nn.Conv2d(64, 256, 3, padding=1),
            nn.BatchNorm2d(256),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(256 * 4 * 4, self.feature_size),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(self.feature_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 32, 32) images to (N, K) logits."""
        logits: Tensor = self.classifier(self.features(images))
        return logits
