"""Focal loss: examples that are already right weigh less."""

from __future__ import annotations

import math
from functools import partial

from models.losses import focal_loss
from models.rebalancing.base import Criterion, Strategy
from models.rebalancing.options import require


class Focal(Strategy):
    """The softmax form without class weights: it knows nothing of counts.

    On boxes it is ``erm``: a RetinaNet's own loss is the sigmoid form already (gamma 2, alpha .25).

    Args:
        gamma: focusing strength, >= 0; 0 is ``erm``.
    Source: Lin et al. 2017, arXiv:1708.02002; gamma 1 as in the baselines of LDAM and M2m.
    """

    balances = False
    takes_boxes = True

    def __init__(self, *, gamma: float = 1.0) -> None:
        require(0 <= gamma < math.inf, "gamma", gamma, "a number >= 0")
        self.gamma = gamma

    def make_criterion(self, epoch: int) -> Criterion:
        """The focal loss."""
        return partial(focal_loss, gamma=self.gamma)
