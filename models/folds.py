"""Folds of labeled rows, each class spread evenly over them."""

from __future__ import annotations

import numpy as np

from models.types import IntArray


def stratified_folds(targets: IntArray, count: int, rng: np.random.Generator) -> IntArray:
    """(N,) fold of each row in [0, ``count``), each class spread evenly.

    Args:
        targets: (N,) class indices.
        count: how many folds.
        rng: which row of a class is in which fold.
    """
    folds = np.zeros(len(targets), dtype=np.int64)
    for k in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == k))
        folds[members] = (np.arange(len(members)) + rng.integers(count)) % count
    return folds
