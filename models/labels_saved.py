"""How many labels an order saves against random order, over repeats of the same game.

Repeats are paired: in each, both orders start from the same labels and the same pool, so that the
difference varies less than either. Repeats draw from the same data: an interval speaks of other
starts on this data, not of other data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.errors import ShapeError
from models.intervals import Interval, resampled_interval
from models.metrics import BoolArray


class Saving(BaseModel):
    """What it took to find a share of the rare ones.

    Attributes:
        share: of the pool's rare examples, in (0, 1].
        rare: how many that is, rounded up.
        reached: repeats in which the order found them within its labels.
        labels: labels that it took; None unless every repeat reached it.
        random: labels that random order took.
        saved: the difference, repeat by repeat; None like ``labels``.
        saved_share: of the random order's labels; None like ``labels``.
    """

    model_config = ConfigDict(frozen=True)

    share: float
    rare: int
    reached: int
    labels: Interval | None
    random: Interval
    saved: Interval | None
    saved_share: Interval | None


def labels_to_reach(hits: BoolArray, rare: int) -> int | None:
    """Labels until the ``rare``-th hit; None where the order ends before it.

    Args:
        hits: (B,) whether the n-th labeled example is rare.
        rare: how many to find, 1 or more.
    """
    found = np.flatnonzero(hits)
    return int(found[rare - 1]) + 1 if rare <= len(found) else None


def mean_with_interval(values: Sequence[float]) -> Interval:
    """Mean over repeats with a 95 % t interval; of one repeat the value alone."""
    if len(values) == 1:
        return Interval(mean=values[0], low=values[0], high=values[0])
    return resampled_interval(np.asarray(values, dtype=np.float64), hidden_to_known=0.0)


def found_interval(values: Sequence[int], most: int) -> Interval:
    """As ``mean_with_interval``, within the 0 to ``most`` that can be found."""
    found = mean_with_interval(values)
    return Interval(mean=found.mean, low=max(found.low, 0.0), high=min(found.high, float(most)))


def saving(
    hits: Sequence[BoolArray], random_hits: Sequence[BoolArray], *, total: int, share: float
) -> Saving:
    """Compare an order with random order, repeat by repeat.

    Args:
        hits: of the order, one (B,) array a repeat.
        random_hits: of random order over the whole pool, one (N,) array a repeat, paired.
        total: rare examples of the pool, 1 or more.
        share: of them that is to be found, in (0, 1].
    Raises: ShapeError: if repeats are not paired, or a random order does not find all.
    """
    if len(hits) != len(random_hits) or not hits:
        raise ShapeError(f"found {len(hits)} and {len(random_hits)} repeats; expected pairs")
    rare = math.ceil(share * total)
    chance = [labels_to_reach(order, rare) for order in random_hits]
    reached = [labels_to_reach(order, rare) for order in hits]
    needed = [labels for labels in reached if labels is not None]
    against = [labels for labels in chance if labels is not None]
    if len(against) < len(chance):
        raise ShapeError(f"a random order ends before {rare} of {total} rare ones; give all of it")
    whole = len(needed) == len(reached)
    pairs = list(zip(needed, against, strict=True)) if whole else []
    return Saving(
        share=share,
        rare=rare,
        reached=len(needed),
        labels=_at_least(rare, mean_with_interval(needed)) if whole else None,
        random=_at_least(rare, mean_with_interval(against)),
        saved=mean_with_interval([other - own for own, other in pairs]) if whole else None,
        saved_share=mean_with_interval([1 - own / other for own, other in pairs])
        if whole
        else None,
    )


def _at_least(rare: int, labels: Interval) -> Interval:
    """No order finds so many rare ones with fewer labels than that."""
    return labels.model_copy(update={"low": max(labels.low, float(rare))})
