"""Deferred re-balancing: plain training first, then re-sampling (DRS) or re-weighting (DRW)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from models.rebalancing.base import Criterion, Task
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.options import require
from models.rebalancing.resample import Resample


class Drs(Resample):
    """Features of all examples first, then ``resample``.

    Args:
        deferred: share of the epochs before, in [0, 1]; .8 for 160 of 200.
        beta: as in ``resample``.
    Source: Cao et al. 2019, arXiv:1906.07413, section 3.3.
    """

    def __init__(self, *, deferred: float = 0.8, beta: float | None = None) -> None:
        super().__init__(beta=beta)
        require(0 <= deferred <= 1, "deferred", deferred, "a share in [0, 1]")
        self.deferred = deferred

    def begin(self, task: Task) -> None:
        """Find where it begins."""
        super().begin(task)
        self.start = task.from_epoch(self.deferred)

    def make_sampler(self, epoch: int) -> Tensor | None:
        """All examples, shuffled, until it begins."""
        return super().make_sampler(epoch) if epoch >= self.start else None

    def mature_epoch(self) -> int:
        """Where it begins."""
        return self.start % self.task.epochs


class Drw(ClassBalanced):
    """Features by plain cross-entropy first, then ``class_balanced``.

    Args:
        deferred: share of the epochs before, in [0, 1]; .8 for 160 of 200.
        beta: as in ``class_balanced``.
    Source: Cao et al. 2019, arXiv:1906.07413, section 3.3. Its code takes the weights by
        ``epoch // 160`` and fails beyond epoch 320.
    """

    def __init__(self, *, deferred: float = 0.8, beta: float = 0.9999) -> None:
        super().__init__(beta=beta)
        require(0 <= deferred <= 1, "deferred", deferred, "a share in [0, 1]")
        self.deferred = deferred

    def begin(self, task: Task) -> None:
        """Find where it begins."""
        super().begin(task)
        self.start = task.from_epoch(self.deferred)

    def make_criterion(self, epoch: int) -> Criterion:
        """Plain cross-entropy until it begins."""
        return super().make_criterion(epoch) if epoch >= self.start else F.cross_entropy

    def mature_epoch(self) -> int:
        """Where it begins."""
        return self.start % self.task.epochs
