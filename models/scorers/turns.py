"""One queue from the orders of several tail classes: round robin, but no turn is wasted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scorers.best import best_rows
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
    size = min(max(budget, 0), count)
    # No class is asked for more than all turns together.
    orders = [best_rows(scores[:, column], ids, size) for column in range(classes)]
    at = np.zeros(classes, dtype=np.int64)
    taken = np.zeros(count, dtype=bool)
    rows: list[int] = []
    turns: list[int] = []
    if size:
        best = np.asarray([order[0] for order in orders])
        chance = likelihood[best, np.arange(classes)]
    while len(rows) < size:
        for column in range(classes):
            if chance[column] < give_up_share * chance.max():
                continue
            row = int(best[column])
            rows.append(row)
            turns.append(column)
            taken[row] = True
            if len(rows) == size:
                break
            for other in np.flatnonzero(best == row):
                while taken[orders[other][at[other]]]:
                    at[other] += 1
                best[other] = orders[other][at[other]]
                chance[other] = likelihood[best[other], other]
    return np.asarray(rows, dtype=np.int64), np.asarray(turns, dtype=np.int64)
