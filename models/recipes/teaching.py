"""What differs in the training loop between pictures with a class and pictures with boxes."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from models.rebalancing.base import Batch, Criterion, Strategy


class Teaching(Protocol):
    """N examples, and how a network learns from them."""

    @property
    def inputs(self) -> Tensor:
        """(N, C, H, W) uint8 pictures, or (N, D) float features."""

    @property
    def targets(self) -> Tensor:
        """(N,) int64: the place of what is true among ``class_names``."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What ``said`` has a column for."""

    @property
    def holds(self) -> Tensor | None:
        """(N, K) bool, which classes are in each; None where each is of one class."""

    @property
    def pictures(self) -> bool:
        """Whether the inputs are pictures."""

    @property
    def validates(self) -> bool:
        """Whether there are other examples that may choose the epoch."""

    @property
    def worth_name(self) -> str:
        """What ``worth`` is called in ``metrics.jsonl``."""

    def prepared(self, strategy: Strategy, seed: int) -> Teaching:
        """The same with the examples that the strategy adds or leaves out."""

    def batch(self, rows: Tensor, epoch: int, device: torch.device) -> Batch:
        """Some of the examples, varied by draws from torch's global generators."""

    def loss(self, network: nn.Module, batch: Batch, criterion: Criterion) -> Tensor:
        """Scalar: the loss of a batch by the network in training mode."""

    def said(self, network: nn.Module, device: torch.device) -> Tensor:
        """(N, len(class_names)) float32 probabilities of all examples, on the CPU."""

    def worth(self, network: nn.Module, device: torch.device, strategy: Strategy) -> float:
        """How good the network is on the validation examples, in [0, 1]."""
