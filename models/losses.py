"""Losses over softmax logits, and the focal loss's gradient in closed form."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ConfigError, ShapeError

# The derivative of (1 - p)^gamma for gamma < 1 has a pole at p = 1.
_LEAST_DOUBT = 1e-7


def focal_loss(
    logits: Tensor, targets: Tensor, *, gamma: float = 2.0, alpha: Tensor | None = None
) -> Tensor:
    """Down-weight easy examples: mean of -alpha_t (1 - p_t)^gamma log p_t.

    p_t comes from the unweighted cross-entropy and alpha is applied after, example by example;
    a weight inside the exponent would change the modulator.

    Args:
        logits: (N, K), unnormalised.
        targets: (N,), int64 class indices in [0, K).
        gamma: focusing strength, >= 0; 0 gives cross-entropy.
        alpha: (K,) weight of each class; None is 1 for all.
    Returns: scalar; the mean over N, not over the sum of weights.

    Raises:
        ShapeError: if the batch sizes differ, or alpha does not hold K weights.
        ConfigError: if gamma is negative.
    Source: Lin et al. 2017, arXiv:1708.02002, eq. 5, on softmax.
    """
    _check(logits, targets, gamma, alpha)
    log_p = F.log_softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)  # (N,)
    doubt = (1 - log_p.exp()).clamp_min(_LEAST_DOUBT)
    losses = -(doubt**gamma) * log_p
    if alpha is not None:
        losses = losses * alpha[targets]
    return losses.mean()


def focal_loss_and_gradient(
    logits: NDArray[np.floating],
    targets: NDArray[np.int64],
    weights: NDArray[np.floating],
    *,
    gamma: float,
) -> tuple[float, NDArray[np.floating]]:
    """Weighted sum of focal losses and its gradient by the logits.

    In NumPy: on a hundred rows the threads of a tensor library cost more than they bring.

    Args:
        logits: (N, K), unnormalised.
        targets: (N,) int64 class indices in [0, K).
        weights: (N,) of each example.
        gamma: focusing strength, >= 0.
    Returns: loss and (N, K) gradient, in the precision of the logits.
    """
    rows = np.arange(len(targets))
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted)
    total = p.sum(axis=1)
    p /= total[:, None]
    log_t = shifted[rows, targets] - np.log(total)
    p_t = p[rows, targets]
    doubt = np.maximum(1 - p_t, _LEAST_DOUBT)
    focus = doubt**gamma
    loss = -float((weights * focus * log_t).sum(dtype=np.float64))
    # d/dlog p of -(1-p)^g log p, then d log p_t / dz_j = [j = t] - p_j.
    by_log_p = -focus
    if gamma:
        by_log_p += gamma * doubt ** (gamma - 1) * p_t * log_t
    by_log_p *= weights
    p *= -by_log_p[:, None]
    p[rows, targets] += by_log_p
    return loss, p


def _check(logits: Tensor, targets: Tensor, gamma: float, alpha: Tensor | None) -> None:
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ShapeError(
            f"found logits {tuple(logits.shape)} and targets {tuple(targets.shape)}; "
            "expected (N, K) and (N,)"
        )
    if alpha is not None and alpha.shape != logits.shape[1:]:
        raise ShapeError(f"found alpha {tuple(alpha.shape)}; expected ({logits.shape[1]},)")
    if gamma < 0:
        raise ConfigError(f"found gamma {gamma}; expected a number >= 0")
