"""Re-weighting: cross-entropy weighted by one over the number of labels (RW)."""

from __future__ import annotations

import torch

from models.rebalancing.base import Criterion, Strategy, Task
from models.rebalancing.class_weights import inverse_weights, weighted_cross_entropy


class Reweight(Strategy):
    """Each class has the same share of the loss, however few its labels."""

    def begin(self, task: Task) -> None:
        """Weigh the classes."""
        super().begin(task)
        self.weights = inverse_weights(task.counts).to(task.device, torch.float32)

    def make_criterion(self, epoch: int) -> Criterion:
        """The weighted cross-entropy."""
        return weighted_cross_entropy(self.weights)
