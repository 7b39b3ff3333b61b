"""How many of the labels that each published queue brought were rare, and what ordered it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from backend.reports import RoundEntry

_MOST = 60
#: Orders that know nothing of what is rare.
UNMINED = frozenset({"diversity", "random"})


class QueuePrecision(BaseModel):
    """One published queue: how many of its tasks were labeled, and how many of them were rare.

    Attributes:
        kind: what ordered it, such as ``rarefirst`` or ``diversity``; empty where rounds of then
            did not write it down.
        tail: the rare classes then; empty likewise.
    """

    model_config = ConfigDict(frozen=True)

    publication: str
    version: str = ""
    at: datetime
    labeled: int
    rare: int
    kind: str = ""
    tail: tuple[str, ...] = ()

    @property
    def mined(self) -> bool:
        """It was ordered by likelihood of being rare, as far as is known."""
        return self.kind not in UNMINED

    @property
    def precision(self) -> float:
        """Share of the labeled ones that were rare."""
        return self.rare / self.labeled


class PrecisionPanel(BaseModel):
    """The last queues, oldest first; ``random`` is what random order would come to, if known."""

    model_config = ConfigDict(frozen=True)

    queues: tuple[QueuePrecision, ...] = ()
    random: float | None = None

    def by_chance(self, queue: QueuePrecision) -> float | None:
        """How many rare ones random order had likely given with as many labels."""
        return None if self.random is None else self.random * queue.labeled


def precision_panel(history: Sequence[RoundEntry], *, random: float | None) -> PrecisionPanel:
    """Read them off the rounds: a round that published tells of the queue before its own."""
    found: dict[str, QueuePrecision] = {}
    serving, version = "", ""
    for entry in history:
        published = "publish" in entry.seconds and entry.publication != serving
        name = serving if published else entry.publication
        if name and entry.queue_labeled:
            found[name] = QueuePrecision(
                publication=name,
                version=version if published else entry.version,
                at=entry.at,
                labeled=entry.queue_labeled,
                rare=entry.queue_rare,
                kind=entry.queue_kind,
                tail=entry.tail,
            )
        serving, version = entry.publication, entry.version
    return PrecisionPanel(
        queues=tuple(found.values())[-_MOST:],
        random=random,
    )
