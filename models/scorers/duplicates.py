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
_NEAR = 0.05  # of the usual squared distance within a class


def whole_parts(size: int, count: int) -> int:
    """How many places must be known for the first ``size`` of ``count``: parts are whole."""
    return min(count, max(size, min(-(-size // PART), _PARTS) * PART))


def spread(queue: Examples, *, usual: float) -> IntArray:
    """The order in which to serve (N,) examples, so that within a part near-duplicates come last.

    Depends on nothing behind a part, so that a longer queue begins like a shorter one.

    Args:
        queue: as they were to be served.
        usual: squared distance of two examples of one class; near-duplicates are nearer than a
            twentieth of it. Not of any two: a class may be compact.
    """
    order = np.arange(len(queue), dtype=np.int64)
    if usual <= 0:
        return order
    for start in range(0, min(len(queue), _PARTS * PART), PART):
        part = order[start : start + PART]
        features = queue.slice(start, start + len(part)).dense().features
        order[start : start + PART] = part[_later(features, _NEAR * usual)]
    return order


def _later(features: FloatArray, near: float) -> NDArray[np.int64]:
    """Rows that have none before them nearer than ``near``, then the others; both as they came."""
    x = np.asarray(features, dtype=np.float64)
    x = x - x.mean(axis=0)
    squares = (x * x).sum(axis=1)
    alike = np.tril(squares[:, None] + squares - 2 * x @ x.T < near, -1)
    kept: list[int] = []
    rest: list[int] = []
    for row in range(len(x)):
        (rest if alike[row, kept].any() else kept).append(row)
    return np.asarray([*kept, *rest], dtype=np.int64)
