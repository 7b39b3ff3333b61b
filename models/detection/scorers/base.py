"""What every way to order pictures by their detections shares.

A scorer gives each detection one or several scores; a picture has the mean of its surest
detections' (the paper, and all that is compared with it) or the largest (so that one rare box does
not drown among many common ones).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.detection.matching import LabeledSlots
from models.detection.slots import Slots
from models.types import ClassSpace

State = Mapping[str, NDArray[np.generic]]

#: Below this confidence nothing counts as a detection.
LEAST_CONFIDENCE = 0.05
#: Detections of a picture whose mean counts; the paper's number is not published.
TOP = 5


@dataclass(frozen=True)
class PictureScores:
    """Scores of N pictures, high = label sooner.

    Attributes:
        together: (N,) over all tail classes.
        apart: (N, T') of those that are served in turn; T' is 0 where there are no turns.
        names: why a picture is served, for each of the T' columns.
        share: of the places that each of them is served.
        reason: why a picture is served that is not in turn.
        rarity: (N,) likelihood in [0, 1] that a picture holds a tail object; None where the scorer
            does not say.
    """

    together: NDArray[np.float64]
    apart: NDArray[np.float64]
    names: tuple[str, ...] = ()
    share: float = 0.0
    reason: str = ""
    rarity: NDArray[np.float64] | None = None

    @classmethod
    def plain(cls, scores: NDArray[np.float64], reason: str) -> PictureScores:
        """One order without turns."""
        return cls(scores, np.empty((len(scores), 0)), reason=reason)


class DetectionScorer(Protocol):
    """One way to order pictures; made from settings, stored as arrays.

    Attributes:
        learns: whether it needs labels; ``objects``: whether detections must lie on labeled boxes;
        tail: whether it needs a tail class.
    """

    learns: ClassVar[bool]
    objects: ClassVar[bool]
    tail: ClassVar[bool]

    def __init__(self, config: MinerConfig, *, patch_size: int) -> None: ...

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Learn from detections of labeled pictures, and of some of the pool if it likes."""

    def scores(self, slots: Slots, count: int) -> PictureScores:
        """Of ``count`` pictures, whose detections are ``slots``, picture after picture."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What must be stored beside settings and classes."""

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take back what ``state`` gave."""


def surest(slots: Slots, count: int, *, top: int = TOP) -> NDArray[np.bool_]:
    """(M,) which are among the ``top`` surest of their picture and sure enough to count."""
    starts = np.searchsorted(slots.picture, np.arange(count))
    place = np.arange(len(slots)) - starts[slots.picture]
    chosen: NDArray[np.bool_] = (place < top) & (slots.confidence >= LEAST_CONFIDENCE)
    return chosen


def mean_of_surest(
    values: NDArray[np.floating], slots: Slots, count: int, *, top: int = TOP
) -> NDArray[np.float64]:
    """(N,) mean of (M,) values over each picture's surest detections; 0 where it has none."""
    chosen = surest(slots, count, top=top)
    picture = slots.picture[chosen]
    each = np.bincount(picture, minlength=count)
    total = np.bincount(picture, weights=values[chosen].astype(np.float64), minlength=count)
    found: NDArray[np.float64] = total / np.maximum(each, 1)
    return found


def most(
    values: NDArray[np.floating], slots: Slots, count: int, *, none: float
) -> NDArray[np.float64]:
    """(N, C) largest of (M, C) values of each picture; ``none`` where it has no detection."""
    found = np.full((count, values.shape[1]), none, dtype=np.float64)
    if len(slots):
        starts = np.flatnonzero(np.r_[True, np.diff(slots.picture) > 0])
        found[slots.picture[starts]] = np.maximum.reduceat(
            values.astype(np.float64), starts, axis=0
        )
    return found
