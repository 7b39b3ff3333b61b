"""Selecting the best few is sorting all and taking the head."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.scorers.best import Contenders, best_rows
from models.types import FloatArray

# A handful of values, so that ties are common; infinities are what saturated scores come to.
SCORES = st.lists(
    st.sampled_from([-np.inf, -2.5, -1.0, 0.0, -0.0, 0.5, 3.0, np.inf]), min_size=0, max_size=60
)


def _sorted(scores: FloatArray, ids: FloatArray) -> list[int]:
    rows: list[int] = np.lexsort((ids, -scores)).tolist()
    return rows


@given(SCORES, st.integers(-1, 70), st.integers(0, 2**32 - 1))
def test_the_best_rows_are_the_head_of_a_full_sort(
    values: list[float], count: int, seed: int
) -> None:
    scores = np.asarray(values)
    ids = np.random.default_rng(seed).permutation(len(values)).astype(np.int64)
    assert best_rows(scores, ids, count).tolist() == _sorted(scores, ids)[: max(count, 0)]


@given(
    st.integers(1, 3),
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.3]),
    st.integers(0, 2**32 - 1),
)
def test_contenders_hold_the_best_of_each_column(
    columns: int, batches: list[int], count: int, slack: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    total = sum(batches)
    scores = rng.integers(-5, 5, size=(total, columns)).astype(np.float32) / 4
    contenders = Contenders(columns, count, slack)
    start = 0
    for size in batches:
        contenders.add(np.arange(start, start + size), scores[start : start + size])
        start += size
    kept = set(contenders.rows().tolist())
    # However the scores move within half of the slack, the best are there.
    moved = scores + rng.uniform(-0.49, 0.49, size=scores.shape) * slack
    for column in range(columns):
        best = np.sort(moved[:, column])[::-1][:count]
        found = np.sort(moved[sorted(kept), column])[::-1][:count] if kept else np.empty(0)
        np.testing.assert_array_equal(found, best)
