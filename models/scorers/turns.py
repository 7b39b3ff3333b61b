"""One queue from the orders of several tail classes: each has its share, the best have the rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.scorers.best import best_rows
from models.types import FloatArray, IntArray


def take_turns(
    scores: FloatArray,
    pooled: FloatArray,
    ids: IntArray,
    *,
    budget: int,
    share: float,
    give_up_share: float,
) -> tuple[IntArray, NDArray[np.int64]]:
    """Each class is served its share of the places so far; the rest goes by all classes together.

    At every place the class that is furthest behind its share gives its best example that is left;
    where none is behind, the best by ``pooled`` is next. A class whose best is far less likely than
    the best of any class gives up its turns: an exhausted class would spend labels on the head.

    Args:
        scores: (N, T) log-odds of each class, high first.
        pooled: (N,) order by all classes together.
        ids: (N,) breaks ties.
        budget: rows wanted, at most N come back.
        share: of the places that each class is served, at most 1 / T.
        give_up_share: in [0, 1], of the likelihood of the likeliest; 0: no turn is given up.
    Returns: rows in order, and for whom each is served (column): by a turn or, where it is not
        for one, the class that it is most like.
    """
    count, classes = scores.shape
    size = min(max(budget, 0), count)
    # No class is asked for more than all places together.
    orders = [best_rows(column, ids, size) for column in (*scores.T, pooled)]
    at = np.zeros(classes + 1, dtype=np.int64)
    taken = np.zeros(count, dtype=bool)
    served = np.zeros(classes)
    rows: IntArray = np.empty(size, dtype=np.int64)
    turns: NDArray[np.int64] = np.empty(size, dtype=np.int64)
    columns = np.arange(classes)
    best = np.asarray([order[0] for order in orders]) if size else np.empty(0, dtype=np.int64)
    for place in range(size):
        odds = scores[best[:-1], columns]
        likely = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        owed = share * (place + 1)
        gave_up = likely < give_up_share * likely.max()
        # What is given up is not owed later.
        served[gave_up] = np.maximum(served[gave_up], owed)
        behind = owed - served
        turn = int(behind.argmax())
        if behind[turn] > 1e-9:
            row = int(best[turn])
        else:
            row = int(best[-1])
            turn = int(scores[row].argmax())
        rows[place], turns[place] = row, turn
        taken[row] = True
        served[turn] += 1
        if place + 1 < size:
            for other in np.flatnonzero(best == row):
                while taken[orders[other][at[other]]]:
                    at[other] += 1
                best[other] = orders[other][at[other]]
    return rows, turns
