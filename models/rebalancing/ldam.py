"""Label-distribution-aware margins: a rare class must be told apart by more."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.cosine_head import CosineLinear, replace_last_linear
from models.rebalancing.base import Criterion, Task
from models.rebalancing.deferred import Drw
from models.rebalancing.options import require


def margins(counts: Tensor, largest: float) -> Tensor:
    """In proportion to N_k^(-1/4): sixteen times rarer, twice the margin.

    Args:
        counts: (K,) labels of each class; none counts as one.
        largest: the margin of the rarest class, and of all where counts are equal.
    Returns: (K,) float64.    Source: Cao et al. 2019, arXiv:1906.07413, eq. 11.
    """
    shape = counts.double().clamp_min(1) ** -0.25
    return shape * (largest / shape.max())


class Ldam(Drw):
    """Cross-entropy of s (cos_k - m_k [k = y]) with a cosine head, re-weighted late (LDAM-DRW).

    Args:
        max_margin: of the rarest class, >= 0, in cosines.
        scale: s, > 0; it sits in the head, so logits are s cos.
        deferred: share of the epochs before the weights of ``class_balanced``; 1 means no weights.
        beta: of those weights.
    Source: Cao et al. 2019, arXiv:1906.07413.
    """

    def __init__(
        self,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        deferred: float = 0.8,
        beta: float = 0.9999,
    ) -> None:
        super().__init__(deferred=deferred, beta=beta)
        require(0 <= max_margin < math.inf, "max_margin", max_margin, "a number >= 0")
        require(0 < scale < math.inf, "scale", scale, "a number > 0")
        self.max_margin = max_margin
        self.scale = scale

    def prepare_network(self, network: nn.Module) -> nn.Module:
        """Give it a cosine head that looks where the old head looked."""
        return replace_last_linear(network, lambda old: CosineLinear.like(old, self.scale))

    def begin(self, task: Task) -> None:
        """Set the margins."""
        super().begin(task)
        self.margins = margins(task.counts, self.max_margin).to(task.device, torch.float32)

    def make_criterion(self, epoch: int) -> Criterion:
        """The loss with margins, of plain or weighted cross-entropy."""
        inner = super().make_criterion(epoch)
        handicap = self.scale * self.margins

        def criterion(logits: Tensor, targets: Tensor) -> Tensor:
            return inner(logits - handicap * F.one_hot(targets, logits.shape[1]), targets)

        return criterion
