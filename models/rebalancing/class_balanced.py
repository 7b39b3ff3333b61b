"""Class-balanced loss: cross-entropy weighted by one over the effective number (CB-RW)."""

from __future__ import annotations

import torch

from models.rebalancing.base import Criterion, Strategy, Task
from models.rebalancing.class_weights import effective_weights, weighted_cross_entropy
from models.rebalancing.options import require


class ClassBalanced(Strategy):
    """Rare classes weigh more, but no more than their labels tell apart.

    Args:
        beta: in [0, 1); 0 weighs all alike, near 1 it is ``reweight``. M2m's script has .999.
    Source: Cui et al. 2019, arXiv:1901.05555.
    """

    def __init__(self, *, beta: float = 0.9999) -> None:
        require(0 <= beta < 1, "beta", beta, "a number in [0, 1)")
        self.beta = beta

    def begin(self, task: Task) -> None:
        """Weigh the classes."""
        super().begin(task)
        self.weights = effective_weights(task.counts, self.beta).to(task.device, torch.float32)

    def make_criterion(self, epoch: int) -> Criterion:
        """The weighted cross-entropy."""
        return weighted_cross_entropy(self.weights)
