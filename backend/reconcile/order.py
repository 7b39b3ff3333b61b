"""The order of a version: which task stands where, however many were labeled since its fit.

The order runs over every embedded task that the version was not fitted on, labeled by now or not.
A publication is a window into it: what is labeled is left out, nothing else moves. So a version
that is activated again is served in exactly the order that it was served in before.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.reconcile.ledger import DrawNote
from backend.settings import Settings
from models.registry import Version
from models.tasks.base import FittedMiner
from models.types import Examples, IntArray, Judgement, RankedQueue

CONTROL = "control"


@dataclass(frozen=True)
class Draw:
    """How the control slice is drawn.

    Attributes:
        share: of the order, in [0, 1].
        block: places among which as many controls as the share says are spread evenly; each
            block draws from all tasks that no earlier block holds, so that the first one is a
            uniform draw from everything.
        seed: one a version.
    """

    share: float
    block: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Window(RankedQueue):
    """What of a version's order is to be published.

    Attributes:
        blocks: the draw's block that each of ``ids`` stands in; -1 behind the order.
    """

    blocks: tuple[int, ...] = ()


def draw_of(version: Version, settings: Settings) -> Draw:
    """The control slice of a version: the same at each of its publications."""
    return Draw(
        share=settings.control_share,
        block=settings.top_k,
        seed=(version.card.seed, version.number),
    )


def window(
    miner: FittedMiner,
    examples: Examples,
    *,
    fitted_on: IntArray,
    open_ids: IntArray,
    size: int,
    draw: Draw,
    seed: int,
) -> tuple[Window, Judgement]:
    """The first tasks of a version's order that may still be labeled, and what is said of all.

    Features are read once for both.

    Args:
        miner: the version's.
        examples: every embedded task, ordered by id.
        fitted_on: ids that its snapshot holds a label of.
        open_ids: ids of unlabeled tasks.
        size: tasks wanted; at most as many come back as are embedded and open.
        draw: the control slice.
        seed: of the ranking.
    """
    is_open = np.isin(examples.ids, open_ids)
    is_new = ~np.isin(examples.ids, fitted_on)
    wanted = size + int((is_new & ~is_open).sum())
    ranked, judgement = _total(
        miner, examples, np.flatnonzero(is_new), wanted, draw=draw, seed=seed
    )
    left = np.flatnonzero(np.isin(ranked.ids, open_ids))[:size]
    queue = _take(ranked, left)
    back = np.flatnonzero(is_open & ~is_new)
    if len(queue.ids) < size and len(back):
        # Their labels were deleted again. The version knew them, so they stand behind its order.
        known = miner.queue(examples.take(back), budget=size - len(queue.ids), seed=seed)
        queue = RankedQueue(
            ids=np.concatenate([queue.ids, known.ids]), reasons=(*queue.reasons, *known.reasons)
        )
    blocks = [*(left // max(1, draw.block)).tolist(), *[-1] * (len(queue.ids) - len(left))]
    return Window(queue.ids, queue.reasons, tuple(blocks)), judgement


def control_ids(queue: RankedQueue) -> tuple[int, ...]:
    """Tasks of a queue that were drawn at random, by id."""
    pairs = zip(queue.ids.tolist(), queue.reasons, strict=True)
    return tuple(sorted(task_id for task_id, reason in pairs if reason == CONTROL))


def draw_notes(queue: Window, draw: Draw, *, examples: IntArray, newest: int) -> list[DrawNote]:
    """What the ledger must keep of the draws that a queue holds, block by block.

    Args:
        queue: a window.
        draw: how its control slice was drawn.
        examples: ids of every embedded task, labeled or not.
        newest: the largest id of those that the draw speaks of.
    """
    drawn: defaultdict[int, list[int]] = defaultdict(list)
    rows = list(zip(queue.ids.tolist(), queue.reasons, queue.blocks, strict=True))
    for task_id, reason, block in rows:
        if reason == CONTROL:
            drawn[block].append(task_id)
    # Other examples, and the same numbers bring another draw.
    pool = hashlib.sha256(np.sort(examples).tobytes()).hexdigest()
    notes = []
    for block, ids in sorted(drawn.items()):
        about = json.dumps([draw.share, draw.block, draw.seed, pool, block])
        notes.append(
            DrawNote(
                key=hashlib.sha256(about.encode()).hexdigest()[:12],
                newest=newest,
                control=tuple(sorted(ids)),
                # Each block draws from what no earlier one holds.
                earlier=tuple(sorted(i for i, _, other in rows if other < block)),
            )
        )
    return notes


def _total(
    miner: FittedMiner, examples: Examples, rows: IntArray, size: int, *, draw: Draw, seed: int
) -> tuple[RankedQueue, Judgement]:
    """The first places of the whole order: at least ``size``, in whole blocks of the draw.

    The order is that of the examples at ``rows``; the judgement is of all.
    """
    block = max(1, draw.block)
    places = min(len(rows), -(-size // block) * block)
    judgement, mined = miner.rescore(examples, rows, budget=places, seed=seed)
    if not round(draw.share * min(block, places)):
        return mined, judgement
    rng = np.random.default_rng(draw.seed)
    left: NDArray[np.int64] = np.sort(examples.ids[rows])
    ids: list[int] = []
    reasons: list[str] = []
    for start in range(0, places, block):
        length = min(block, places - start)
        drawn = rng.choice(left, size=round(draw.share * length), replace=False).tolist()
        away = {*ids, *drawn}
        rest = [
            (int(i), reason)
            for i, reason in zip(mined.ids, mined.reasons, strict=True)
            if int(i) not in away
        ][: length - len(drawn)]
        block_ids, block_reasons = _spread(drawn, rest)
        ids += block_ids
        reasons += block_reasons
        left = np.setdiff1d(left, np.asarray(block_ids, dtype=np.int64), assume_unique=True)
    return RankedQueue(ids=np.asarray(ids, dtype=np.int64), reasons=tuple(reasons)), judgement


def _spread(drawn: list[int], mined: list[tuple[int, str]]) -> tuple[list[int], list[str]]:
    """The drawn tasks spread evenly over the mined ones."""
    total = len(drawn) + len(mined)
    places = set(np.linspace(0, total - 1, len(drawn)).round().astype(int).tolist())
    from_drawn, from_mined = iter(drawn), iter(mined)
    both = [
        (next(from_drawn), CONTROL) if place in places else next(from_mined)
        for place in range(total)
    ]
    return [task_id for task_id, _ in both], [reason for _, reason in both]


def _take(queue: RankedQueue, rows: NDArray[np.int64]) -> RankedQueue:
    return RankedQueue(ids=queue.ids[rows], reasons=tuple(queue.reasons[row] for row in rows))
