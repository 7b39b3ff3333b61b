"""How many of the labels that each published queue brought were rare."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from backend.reports import RoundEntry

_MOST = 60


class QueuePrecision(BaseModel):
    """One published queue: how many of its tasks were labeled, and how many of them were rare."""

    model_config = ConfigDict(frozen=True)

    publication: str
    version: str = ""
    at: datetime
    labeled: int
    rare: int

    @property
    def precision(self) -> float:
        """Share of the labeled ones that were rare."""
        return self.rare / self.labeled


class PrecisionPanel(BaseModel):
    """The last queues, oldest first; ``random`` is what random order would come to, if known."""

    model_config = ConfigDict(frozen=True)

    queues: tuple[QueuePrecision, ...] = ()
    random: float | None = None


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
            )
        serving, version = entry.publication, entry.version
    return PrecisionPanel(
        queues=tuple(found.values())[-_MOST:],
        random=random,
    )
