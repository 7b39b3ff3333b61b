"""Networks as users bring them: found by ``module:factory``."""

from __future__ import annotations

from torch import Tensor, nn


class TinyNetwork(nn.Module):
    """What a user's ``module:factory`` may return."""

    input_size = 16
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    class_names = ("round", "square", "none")

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).mean(dim=(2, 3)))
        return logits


def make_network() -> nn.Module:
    """The factory."""
    return TinyNetwork()


def make_nothing() -> str:
    """A factory that returns no network."""
    return "nothing"


class NoLinear(nn.Module):
    """A network whose head is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stem(images)).mean(dim=(2, 3))
        return logits


def make_small() -> nn.Module:
    """Two classes, dropout and batch normalisation: all that a resume must get right."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    network.input_size = 16  # type: ignore[assignment]
    return network
