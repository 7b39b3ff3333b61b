"""A publication is a window into its version's order: whatever is labeled, nothing else moves."""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backend.reconcile.order import CONTROL, Draw, control_ids, window
from models.config import MinerConfig
from models.recipes.fit_miner import Miner, fit_miner
from models.scorers import SCORERS
from models.scorers.diversity import farthest_first
from models.types import ClassSpace, Examples, LabeledExamples

_SIZE, _LABELED = 90, 40
_NOBODY = np.empty(0, dtype=np.int64)


def _examples() -> tuple[Examples, NDArray[np.int64]]:
    """Four clouds, two of them small; ids in order, with gaps."""
    rng = np.random.default_rng(3)
    targets = rng.choice(4, p=[0.45, 0.35, 0.1, 0.1], size=_SIZE)
    features = (rng.normal(size=(_SIZE, 5)) + 2.5 * np.eye(4, 5)[targets]).astype(np.float32)
    return Examples(np.arange(_SIZE, dtype=np.int64) * 3 + 7, features), targets


EXAMPLES, TARGETS = _examples()
FITTED_ON = EXAMPLES.ids[:_LABELED]
NEW = EXAMPLES.ids[_LABELED:]


@cache
def miner(scorer: str, blind: bool) -> Miner:
    """Fitted on the first labels; ``blind``: with a tail class that has none."""
    rows = np.flatnonzero(TARGETS[:_LABELED] < 2) if blind else np.arange(_LABELED)
    return fit_miner(
        LabeledExamples(EXAMPLES.take(rows), TARGETS[rows]),
        EXAMPLES.take(np.arange(_LABELED, _SIZE)),
        classes=ClassSpace(("a", "b", "c", "d"), tail=(3,) if blind else (2, 3)),
        config=MinerConfig(scorer=scorer, autoencoder_steps=50, members=2),
        seed=0,
    )


@given(
    scorer=st.sampled_from(sorted(SCORERS)),
    blind=st.booleans(),
    labeled=st.sets(st.sampled_from(NEW.tolist())),
    back=st.sets(st.sampled_from(FITTED_ON.tolist()), max_size=4),
    size=st.integers(0, _SIZE + 5),
    block=st.integers(1, 60),
    share=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    number=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_a_window_is_the_whole_order_without_what_is_labeled(
    scorer: str,
    blind: bool,
    labeled: set[int],
    back: set[int],
    size: int,
    block: int,
    share: float,
    number: int,
) -> None:
    fitted = miner(scorer, blind)
    draw = Draw(share=share, block=block, seed=(0, number))
    whole, _ = window(
        fitted, EXAMPLES, fitted_on=FITTED_ON, open_ids=NEW, size=_SIZE, draw=draw, seed=0
    )
    assert sorted(whole.ids.tolist()) == NEW.tolist()
    is_open = np.asarray(sorted((set(NEW.tolist()) - labeled) | back), dtype=np.int64)
    queue, _ = window(
        fitted, EXAMPLES, fitted_on=FITTED_ON, open_ids=is_open, size=size, draw=draw, seed=0
    )
    expected = [
        (task, reason)
        for task, reason in zip(whole.ids.tolist(), whole.reasons, strict=True)
        if task not in labeled
    ]
    found = list(zip(queue.ids.tolist(), queue.reasons, strict=True))
    assert found[: len(expected)] == expected[:size]
    assert len(found) == min(size, len(is_open))
    assert {task for task, _ in found[len(expected) :]} <= back, "what it was fitted on comes last"


@given(share=st.floats(0.05, 1.0), block=st.integers(5, 80), number=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_each_block_holds_its_share_of_controls(share: float, block: int, number: int) -> None:
    draw = Draw(share=share, block=block, seed=(0, number))
    queue, _ = window(
        miner("random", False),
        EXAMPLES,
        fitted_on=_NOBODY,
        open_ids=EXAMPLES.ids,
        size=_SIZE,
        draw=draw,
        seed=0,
    )
    for start in range(0, _SIZE, block):
        reasons = queue.reasons[start : start + block]
        assert reasons.count(CONTROL) == round(share * len(reasons))
    assert len(control_ids(queue)) == queue.reasons.count(CONTROL)


def test_another_version_draws_other_controls() -> None:
    drawn = set()
    for number in range(1, 6):
        draw = Draw(share=0.1, block=30, seed=(0, number))
        queue, _ = window(
            miner("entropy", False),
            EXAMPLES,
            fitted_on=FITTED_ON,
            open_ids=NEW,
            size=30,
            draw=draw,
            seed=0,
        )
        drawn.add(control_ids(queue))
    assert len(drawn) == 5


def test_a_long_diversity_order_starts_like_a_short_one() -> None:
    rng = np.random.default_rng(0)
    pool = Examples(np.arange(1500, dtype=np.int64), rng.normal(size=(1500, 4)).astype(np.float32))
    centers = rng.normal(size=(20, 4)).astype(np.float32)
    # Beyond a thousand picks the greedy order gives way to a plain one.
    whole = farthest_first(pool, centers, len(pool)).tolist()
    assert len(set(whole)) == 1500
    for budget in (10, 999, 1001, 1300):
        assert farthest_first(pool, centers, budget).tolist() == whole[:budget]
