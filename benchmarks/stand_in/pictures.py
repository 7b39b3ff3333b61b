"""Small pictures of a project of any size: digits with noise, two of them rare."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

SIDE_PX = 32
RARE = ("3", "8")
_RARE_SHARE = 0.003  # of all tasks, for each of the two
_NOISE = 12.0


class Pictures:
    """Which class every task shows, and its JPEG, made when it is asked for.

    Args:
        count: tasks.
        seed: chooses classes and pictures.
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        data = load_digits()
        targets = np.asarray(data.target)
        self._images: NDArray[np.float64] = np.asarray(data.images)
        shares = np.full(10, (1 - 2 * _RARE_SHARE) / 8)
        shares[[int(name) for name in RARE]] = _RARE_SHARE
        kinds = rng.choice(10, count, p=shares)
        self._rows = np.zeros(count, dtype=np.int64)
        for digit in range(10):
            of = kinds == digit
            self._rows[of] = rng.choice(np.flatnonzero(targets == digit), int(of.sum()))
        self.classes = [str(kind) for kind in kinds]
        self._seed = seed

    def jpeg(self, number: int) -> bytes:
        """The picture of a task, counted from 0."""
        rng = np.random.default_rng((self._seed, number))
        grey = np.kron(self._images[self._rows[number]] * (255 / 16), np.ones((4, 4)))
        noisy = grey + rng.normal(0, _NOISE, grey.shape)
        buffer = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=85)
        return buffer.getvalue()
