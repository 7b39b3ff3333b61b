"""Repeat-factor sampling: an example is drawn oftener for the rarest class in it (RFS)."""

from __future__ import annotations

import torch
from torch import Tensor

from models.rebalancing.base import Strategy, Task
from models.rebalancing.options import require


def repeat_factors(present: Tensor, threshold: float | None = None) -> Tensor:
    """r_i = max(1, max over the classes in i of sqrt(t / f_c)), f_c the share of examples with c.

    Args:
        present: (N, K) bool, which classes are in each example.
        threshold: t, the share below which a class is repeated; None: the mean share of the
            classes that are in some example, so that r is 1 / sqrt(skewness ratio) of a rare one.
    Returns: (N,) float64, at least 1; an example without any class has 1.
    Source: Gupta et al. 2019, arXiv:1908.03195 (LVIS).
    """
    shares = present.double().mean(dim=0)
    seen = shares > 0
    t = threshold if threshold is not None else float(shares[seen].mean()) if seen.any() else 0.0
    of_class = torch.ones_like(shares)
    of_class[seen] = (t / shares[seen]).sqrt().clamp_min(1.0)
    of_each = torch.where(present, of_class, torch.ones_like(of_class))
    return of_each.amax(dim=1) if of_each.shape[1] else torch.ones(len(present)).double()


class RepeatFactor(Strategy):
    """Draw in proportion to the repeat factor, with replacement.

    LVIS repeats an example r times, its fraction decided anew in each epoch, so that an epoch grows
    by sum(r) / N. Here an epoch stays N draws with the same expected shares.

    Args:
        threshold: t in (0, 1]; None is the mean share of the classes. LVIS has .001, for 1203
            classes in 100,000 images; in a project of hundreds nothing would be repeated.
    Source: Gupta et al. 2019, arXiv:1908.03195; made for images that hold several
        classes, where drawing by class would draw the common ones along.
    """

    takes_boxes = True

    def __init__(self, *, threshold: float | None = None) -> None:
        fits = threshold is None or 0 < threshold <= 1
        require(fits, "threshold", threshold, "a share in (0, 1], or None")
        self.threshold = threshold

    def begin(self, task: Task) -> None:
        """Find the factors."""
        super().begin(task)
        self.factors = repeat_factors(task.present, self.threshold)

    def make_sampler(self, epoch: int) -> Tensor | None:
        """The factors; None where nothing is repeated."""
        return None if bool((self.factors == self.factors[0]).all()) else self.factors
