"""Priors added to the logits in the loss, so that the logits themselves need none.

After training z_k stands for equal priors. The other way, taking the priors off a network that
was trained plainly, is ``prior_scaling``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.rebalancing.base import Criterion, Strategy, Task
from models.rebalancing.class_weights import log_priors
from models.rebalancing.options import require


class LogitAdjusted(Strategy):
    """Cross-entropy of z + tau ln pi.

    A class without labels counts as if it had one: it stays a weak negative of the others and its
    logit is trained.

    Args:
        tau: strength, >= 0; 1 gives equal priors, 0 is ``erm``.
    Source: Menon et al. 2021, arXiv:2007.07314, eq. 10.
    """

    def __init__(self, *, tau: float = 1.0) -> None:
        require(0 <= tau < math.inf, "tau", tau, "a number >= 0")
        self.tau = tau

    def begin(self, task: Task) -> None:
        """Take the priors of what is trained on."""
        super().begin(task)
        self.adjustment = (self.tau * log_priors(task.counts)).to(task.device, torch.float32)

    def make_criterion(self, epoch: int) -> Criterion:
        """The adjusted cross-entropy."""

        def criterion(logits: Tensor, targets: Tensor) -> Tensor:
            return F.cross_entropy(logits + self.adjustment, targets)

        return criterion


class BalancedSoftmax(LogitAdjusted):
    """Softmax of N_k exp(z_k): ``logit_adjusted`` with tau 1, derived from Bayes' rule.

    Source: Ren et al. 2020, arXiv:2007.10740, eq. 3.
    """

    def __init__(self) -> None:
        super().__init__(tau=1.0)
