"""Near-duplicates at the head of a queue: one of them first, the others later.

A burst of the same scene teaches hardly more than one picture of it. They are not left out: they
stand at the end of their part of the queue, and the next fit may want them after all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.types import Examples, FloatArray, IntArray

PART = 200  # places that are looked at together
_PARTS = 5
_NEAR = 0.05  # of the usual squared distance


def whole_parts(size: int, count: int) -> int:
    """How many places must be known for the first ``size`` of ``count``: parts are whole."""
    return min(count, max(size, min(-(-size // PART), _PARTS) * PART))


def spread(queue: Examples) -> IntArray:
    """The order in which to serve (N,) examples, so that within a part near-duplicates come last.

    Rows are near-duplicates where their squared distance is below a twentieth of the median of
    their part. Depends on nothing behind a part, so that a longer queue begins like a shorter one.
    """
    order = np.arange(len(queue), dtype=np.int64)
    for start in range(0, min(len(queue), _PARTS * PART), PART):
        part = order[start : start + PART]
        features = queue.slice(start, start + len(part)).dense().features
        order[start : start + PART] = part[_later(features)]
    return order


def _later(features: FloatArray) -> NDArray[np.int64]:
    """Rows that resemble none before them, then the others; both as they came."""
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    squares = (x * x).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0)
    pairs = distances[np.triu_indices(len(x), 1)]
    usual = float(np.median(pairs)) if len(pairs) else 0.0
    near = np.tril(distances < _NEAR * usual, -1)
    kept: list[int] = []
    rest: list[int] = []
    for row in range(len(x)):
        (rest if near[row, kept].any() else kept).append(row)
    return np.asarray([*kept, *rest], dtype=np.int64)
