"""Which pictures are trained on, and which are the test.

Of each class 500 pictures are the test, always the same; of the other 4,500 class k keeps
``int(N_1 rho^(-k / (K - 1)))`` (docs/methods.md, section 15), drawn by seed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.sifar.pictures import CLASSES, PER_CLASS, Pictures

TEST = 500
MOST = PER_CLASS - TEST


def long_tail_counts(most: int, ratio: float, classes: int = len(CLASSES)) -> tuple[int, ...]:
    """Pictures of each class, the largest first.

    Args:
        most: N_1, of the largest class.
        ratio: N_1 over that of the smallest.
        classes: K.
    """
    # A whisker more, since 5000 * 100^-1 comes out below 50 in floating point.
    return tuple(int(most * ratio ** (-k / (classes - 1)) + 1e-9) for k in range(classes))


def long_tail(
    pictures: Pictures, counts: tuple[int, ...], *, seed: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The pictures of one draw.

    Args:
        pictures: all of them.
        counts: pictures of each class.
        seed: of the draw.
    Returns: training and test, each (N, 3, 32, 32) uint8 and (N,) int64.
    """
    fixed, drawn = np.random.default_rng(2020), np.random.default_rng([seed, 3])
    training, test = [], []
    for k, count in enumerate(counts):
        if count > MOST:
            raise ValueError(f"found {count} pictures wanted of a class; expected {MOST} at most")
        own = k * PER_CLASS + fixed.permutation(PER_CLASS)
        test.append(own[:TEST])
        training.append(drawn.permutation(own[TEST:])[:count])
    return (
        _tensors(pictures, np.concatenate(training)),
        _tensors(pictures, np.concatenate(test)),
    )


def _tensors(pictures: Pictures, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    rows = np.sort(rows)
    pixels = torch.from_numpy(np.ascontiguousarray(pictures.pixels[rows]))
    return pixels.permute(0, 3, 1, 2).contiguous(), torch.from_numpy(pictures.targets[rows].copy())
