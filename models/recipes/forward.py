"""From stored inputs to what a network says of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Scaled(nn.Module):
    """A network behind the scaling of its inputs, so that pictures stay on [0, 1] outside it.

    Args:
        network: fed with (x - mean) / std.
        mean: of each channel, on [0, 1].
        std: of each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) on [0, 1] to (B, K) logits."""
        logits: Tensor = self.network((inputs - self.mean) / self.std)
        return logits


def on_device(inputs: Tensor, device: torch.device) -> Tensor:
    """Stored inputs as a network takes them.

    Args:
        inputs: (B, C, H, W) uint8 pictures, or (B, D) features.
        device: where the network is.
    Returns: (B, C, H, W) float32 on [0, 1], or (B, D) float32.
    """
    if inputs.dtype != torch.uint8:
        return inputs.to(device).float()
    moved = inputs.to(device).to(torch.float32, memory_format=torch.channels_last)
    return moved.div_(255)


@torch.inference_mode()
def predict(
    network: nn.Module, inputs: Tensor, *, device: torch.device, batch: int = 256
) -> Tensor:
    """Softmax of all inputs; the network is put into evaluation mode and left there.

    Args:
        network: takes what ``on_device`` gives, and is on ``device``.
        inputs: (N, C, H, W) uint8 pictures, or (N, D) features.
        device: where to compute.
        batch: inputs in one forward pass.
    Returns: (N, K) float32, on the CPU.
    """
    network.eval()
    said = [
        F.softmax(network(on_device(inputs[at : at + batch], device)).float(), dim=1).cpu()
        for at in range(0, len(inputs), batch)
    ]
    return torch.cat(said)


def balanced_accuracy(said: Tensor, targets: Tensor) -> float:
    """Mean recall of the classes that are there.

    Args:
        said: (N,) predicted class indices.
        targets: (N,) true ones.
    """
    right = (said == targets).double()
    there = torch.bincount(targets).nonzero().squeeze(1)
    return float(torch.stack([right[targets == k].mean() for k in there]).mean())
