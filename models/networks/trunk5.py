"""The trunk of a detector that is trained from nothing: five stages, each half as large."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

WIDTHS = (16, 32, 64, 96, 128)


class Trunk5(nn.Module):
    """(N, 3, H, W) pictures to maps of stride 2 to 32; small enough for a processor.

    The head is there for who wants a classifier; a detector looks at the stages only.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        stages = []
        for before, after in pairwise((3, *WIDTHS)):
            stages.append(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                    nn.Conv2d(after, after, 3, padding=1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
            )
        self.stages = nn.Sequential(*stages)
        self.classifier = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) images to (N, K) logits."""
        logits: Tensor = self.classifier(self.stages(images).mean(dim=(2, 3)))
        return logits
