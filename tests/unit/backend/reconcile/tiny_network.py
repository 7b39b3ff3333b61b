"""A network that a person gives (``module:factory``): 16x16 squares to red, green and blue.

Its features tell colours apart, its head nothing yet: so a fine-tune of it is better for certain.
"""

from __future__ import annotations

import torch
from torch import nn

ADDRESS = "tests.unit.backend.reconcile.tiny_network:tiny"


class Tiny(nn.Module):
    input_size = 16
    mean = (0.5, 0.5, 0.5)
    std = (0.25, 0.25, 0.25)
    class_names = ("red", "green", "blue")

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(8)
        self.body = nn.Linear(12, 8)
        self.head = nn.Linear(8, 3)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))  # everything is red

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.body(self.pool(images).flatten(1)))
        logits: torch.Tensor = self.head(hidden)
        return logits


def tiny() -> nn.Module:
    return Tiny()
