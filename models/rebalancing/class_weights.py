"""Weights and priors of classes from their label counts, and the weighted loss.

A class without labels weighs 0; the weights of the others have mean 1, so equal counts weigh 1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import NotEnoughLabels
from models.rebalancing.base import Criterion
from models.rebalancing.options import require


def effective_numbers(counts: Tensor, beta: float) -> Tensor:
    """(1 - beta^N_k) / (1 - beta): how many labels of a class are not repetitions of others.

    Args:
        counts: (K,) labels of each class.
        beta: in [0, 1); 0 counts each class that has labels once.
    Returns: (K,) float64; 0 for a class without labels.    Raises: ConfigError: for another beta.
    Source: Cui et al. 2019, arXiv:1901.05555, eq. 1.
    """
    require(0 <= beta < 1, "beta", beta, "a number in [0, 1)")
    if beta == 0:
        return (counts > 0).double()
    # expm1: with few labels and beta near 1 the two terms of 1 - beta^N cancel.
    return -torch.expm1(counts.double() * math.log(beta)) / (1 - beta)


def effective_weights(counts: Tensor, beta: float) -> Tensor:
    """One over the effective number of each class; (K,) float64, mean 1 over classes present."""
    return _inverse(effective_numbers(counts, beta))


def inverse_weights(counts: Tensor) -> Tensor:
    """One over the labels of each class; (K,) float64, mean 1 over classes present."""
    return _inverse(counts.double())


def log_priors(counts: Tensor) -> Tensor:
    """ln(N_k / mean N): the log priors but for a constant, which no softmax sees.

    A class without labels counts as if it had one, so that all stays finite.

    Args:
        counts: (K,) labels of each class.
    Returns: (K,) float64; 0 where all counts are equal.
    """
    floored = counts.double().clamp_min(1)
    return (floored / floored.mean()).log()


def weighted_cross_entropy(weights: Tensor) -> Criterion:
    """The mean over the B examples of w_y times the cross-entropy.

    It is not divided by the sum of the batch's weights, as ``F.cross_entropy(weight=...)`` does: a
    batch that holds rare classes moves the network more than one without (METHODS section 9).

    Args:
        weights: (K,) float, where the logits are.
    """

    def criterion(logits: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, targets, reduction="none")  # (B,)
        return (weights[targets] * losses).mean()

    return criterion


def _inverse(numbers: Tensor) -> Tensor:
    present = numbers > 0
    if not present.any():
        raise NotEnoughLabels("no class has a label; label some examples first")
    weights = torch.where(present, 1 / numbers.where(present, torch.ones_like(numbers)), 0.0)
    return weights * (present.sum() / weights.sum())
