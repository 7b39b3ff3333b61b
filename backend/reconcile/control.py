"""The control slice: which random draws were published, and what their labels say of the pool.

A pure function of ledger, labels and tail. A label counts for the draw of the newest publication
that held its task; what was labeled since a draw is what stands in that publication or a later one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from backend.reconcile.actions import embed
from backend.reconcile.context import ProjectContext
from backend.reconcile.ledger import KnownDraw, Ledger
from backend.reports import RareEstimate, RareLeftReport
from models.prevalence import Draw, RareLeft, rare_left

_COVERED = 0.9  # share of the unlabeled tasks that the oldest draw in use must speak of
_MOST_CLASSES = 20  # with more, the total is all that is estimated: time


def what_is_left(context: ProjectContext) -> RareLeftReport:
    """How many tasks of tail classes are unlabeled, as far as the control slice tells."""
    tasks, tail = context.tasks(), context.tail.names
    unlabeled = np.asarray(tasks.ids[tasks.rows(state="unlabeled")], dtype=np.int64)
    readable = unlabeled[~np.isin(unlabeled, np.asarray([*embed.unreadable(context)], np.int64))]
    return estimate(
        context.ledger,
        context.classes_by_task(),
        tail,
        readable,
        control_share=context.settings.control_share,
    )


def estimate(
    ledger: Ledger,
    labels: Mapping[int, tuple[str, ...]],
    tail: Sequence[str],
    unlabeled: NDArray[np.int64],
    *,
    control_share: float,
) -> RareLeftReport:
    """The estimate from the files alone.

    Args:
        ledger: what was published.
        labels: classes by task: one, or those of its boxes. A task is rare that holds a rare one.
        tail: the rare classes.
        unlabeled: ids of unlabeled tasks that could be drawn.
        control_share: as it is set now, for what to say where there are no control labels.
    """
    found = sum(any(name in tail for name in names) for names in labels.values())
    draws = [draw for draw in ledger.draws() if any(i in labels for i in draw.control)]
    nothing = RareLeftReport(control_share=control_share, found=found, newer=len(unlabeled))
    if not draws or not tail:
        return nothing
    draws, newest = _that_cover(draws, unlabeled)
    last = ledger.last_held()
    ids = np.asarray(sorted(i for i in labels if i <= newest), dtype=np.int64)
    held = np.asarray([last.get(int(i), -1) for i in ids], dtype=np.int64)
    size = int((unlabeled <= newest).sum())
    groups = {"": _holding(labels, ids, tail)}
    if len(tail) <= _MOST_CLASSES:
        groups |= {name: _holding(labels, ids, (name,)) for name in tail}
    counted = {name: _counted(draws, ids, held, mask) for name, mask in groups.items()}
    whole = counted.pop("")
    if not whole:
        return nothing
    total = _rare_left(whole, size)
    return RareLeftReport(
        control_share=control_share,
        labels=sum(draw.drawn for draw in whole),
        rare=sum(draw.rare for draw in whole),
        found=found,
        tasks=size,
        newer=len(unlabeled) - size,
        total=_told(total),
        by_class={name: _told(_rare_left(own, size)) for name, own in counted.items()},
        at_most=total.at_most,
        at_most_share=total.at_most / max(total.at_most + found, 1),
    )


def _holding(
    labels: Mapping[int, tuple[str, ...]], ids: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.bool_]:
    """(L,) which tasks hold one of some classes."""
    wanted = frozenset(classes)
    return np.asarray([not wanted.isdisjoint(labels[int(i)]) for i in ids], dtype=bool)


def _that_cover(
    draws: list[KnownDraw], unlabeled: NDArray[np.int64]
) -> tuple[list[KnownDraw], int]:
    """The draws that speak of nearly all unlabeled tasks, and the largest id all could bring.

    Tasks that were imported later could not be drawn before. Where those are more than a tenth,
    the older draws are left out as soon as a newer one is labeled.
    """
    newest = np.maximum.accumulate([draw.newest for draw in draws])
    shares = [float((unlabeled <= end).mean()) if len(unlabeled) else 1.0 for end in newest]
    enough = min(_COVERED, max(shares))
    first = next(place for place, share in enumerate(shares) if share >= enough)
    return draws[first:], int(newest[first])


def _counted(
    draws: Sequence[KnownDraw],
    ids: NDArray[np.int64],
    held: NDArray[np.int64],
    is_rare: NDArray[np.bool_],
) -> tuple[Draw, ...]:
    """What each draw brought, and what was labeled since.

    Args:
        draws: in use.
        ids: (L,) labeled tasks that all could have brought, ascending.
        held: (L,) number of the newest publication that held each, -1 where none did.
        is_rare: (L,) which labels count.
    """
    counted = []
    for draw in draws:
        since = held >= draw.number
        if draw.earlier:
            since &= ~np.isin(ids, list(draw.earlier))
        drawn = since & np.isin(ids, draw.control)
        if drawn.any():
            counted.append(
                Draw(
                    drawn=int(drawn.sum()),
                    rare=int((drawn & is_rare).sum()),
                    labeled_since=int(since.sum()),
                    found_since=int((since & is_rare).sum()),
                )
            )
    return tuple(counted)


@lru_cache(maxsize=256)
def _rare_left(draws: tuple[Draw, ...], unlabeled: int) -> RareLeft:
    """Remembered: a round reports several times, and most rounds bring no label."""
    return rare_left(draws, unlabeled=unlabeled)


def _told(found: RareLeft) -> RareEstimate:
    return RareEstimate(likely=found.likely, low=found.low, high=found.high)
