"""One queue from the orders of several tail classes: round robin, but no turn is wasted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scorers.base import descending
from models.types import FloatArray, IntArray


def take_turns(
    scores: FloatArray,
    likelihood: FloatArray,
    ids: IntArray,
    *,
    budget: int,
    give_up_share: float,
) -> tuple[IntArray, NDArray[np.int64]]:
    """Each class in turn gives its best example that is left.

    A class whose best is far less likely than the best of any class gives up its turn: an
    exhausted class would spend labels on the head.

    Args:
        scores: (N, T) order within each class, high first.
        likelihood: (N, T) calibrated likelihood of each class.
        ids: (N,) breaks ties.
        budget: rows wanted, at most N come back.
        give_up_share: in [0, 1]; 0 is strict round robin.
    Returns: rows in order, and whose turn each was (column).
    """
    count, classes = scores.shape
    orders = [descending(scores[:, column], ids).tolist() for column in range(classes)]
    chances = [likelihood[:, column].tolist() for column in range(classes)]
    at = [0] * classes
    taken = np.zeros(count, dtype=bool)
    rows: list[int] = []
    turns: list[int] = []
    while len(rows) < min(budget, count):
        for column in range(classes):
            if len(rows) >= min(budget, count):
                break
            best = [_next(orders[k], at, k, taken) for k in range(classes)]
            most = max(chances[k][best[k]] for k in range(classes))
            if chances[column][best[column]] < give_up_share * most:
                continue
            rows.append(best[column])
            turns.append(column)
            taken[best[column]] = True
    return np.asarray(rows, dtype=np.int64), np.asarray(turns, dtype=np.int64)


def _next(order: list[int], at: list[int], column: int, taken: NDArray[np.bool_]) -> int:
    """The first row of a class's order that nobody took; moves its pointer there."""
    while taken[order[at[column]]]:
        at[column] += 1
    return order[at[column]]
