"""Re-sampling: classes are drawn alike, with replacement (RS)."""

from __future__ import annotations

from torch import Tensor

from models.rebalancing.base import Strategy, Task
from models.rebalancing.class_weights import effective_weights, inverse_weights
from models.rebalancing.options import require


class Resample(Strategy):
    """An epoch of N draws in which each class has the same share.

    Args:
        beta: None weighs an example 1/N_y, as M2m does; a number in [0, 1) weighs it by one over
            its class's effective number, as LDAM's code does with .9999.
    Source: Cao et al. 2019, arXiv:1906.07413, and Kim et al. 2020, arXiv:2004.00431, baselines.
    """

    def __init__(self, *, beta: float | None = None) -> None:
        require(beta is None or 0 <= beta < 1, "beta", beta, "a number in [0, 1), or None")
        self.beta = beta

    def begin(self, task: Task) -> None:
        """Weigh the examples."""
        super().begin(task)
        counts = task.counts
        by_class = (
            inverse_weights(counts) if self.beta is None else effective_weights(counts, self.beta)
        )
        self.weights = by_class[task.targets.cpu()]

    def make_sampler(self, epoch: int) -> Tensor | None:
        """The weight of each example's class."""
        return self.weights
