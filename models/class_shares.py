"""How much of a pool is of each class, from what a classifier says of its rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from models.types import FloatArray

_ROUNDS = 30  # what is far from sure is left before it overshoots


def class_shares(logits: FloatArray, start: FloatArray, rounds: int = _ROUNDS) -> FloatArray:
    """Shares under which the rows are most likely, by expectation maximisation.

    Args:
        logits: (N, K) log-densities of the classes, up to a constant of each row; N > 0.
        start: (K,) shares to begin with, summing to 1; a share of 0 stays 0.
        rounds: how many steps.
    Returns: (K,) summing to 1.
    Source: Saerens, Latinne and Decaestecker 2002, eq. 2.9.
    """
    rows = torch.from_numpy(np.ascontiguousarray(logits, dtype=np.float32).T)
    densities = (rows - rows.amax(dim=0)).exp_()  # (K, N): classes along vector registers
    shares = torch.from_numpy(np.asarray(start, dtype=np.float32).copy())
    for _ in range(rounds):
        total = (shares @ densities).clamp_min_(1e-30)
        shares = shares * (densities @ (1 / total)) / densities.shape[1]
    found: NDArray[np.float64] = shares.double().numpy()
    return found / max(float(found.sum()), 1e-30)
