"""Two versions side by side: figures, settings, labels."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from backend.projects import ProjectStore
from backend.version_differences import (
    LabelDifference,
    Pair,
    config_of,
    label_difference,
    pairs,
)
from backend.versions import VersionFolder, VersionRow


class VersionComparison(BaseModel):
    """What differs, and the figures of both; ``counts``: labels by class."""

    model_config = ConfigDict(frozen=True)

    a: VersionRow
    b: VersionRow
    metrics: dict[str, Pair]
    counts: dict[str, Pair]
    config: dict[str, Pair]
    tail: Pair
    labels: LabelDifference


def comparison(store: ProjectStore, a: str, b: str) -> VersionComparison:
    """Compare two versions by what is kept of them; of settings only those that differ.

    Raises:
        VersionRefused: where one of them is not there or damaged.
    """
    folder = VersionFolder(store)
    first, second = folder.load(a), folder.load(b)
    before, after = folder.snapshot(first), folder.snapshot(second)
    config = pairs(config_of(first), config_of(second))
    return VersionComparison(
        a=folder.row(first),
        b=folder.row(second),
        metrics=pairs(first.card.metrics, second.card.metrics),
        counts=pairs(dict(before.counts()), dict(after.counts())),
        config={name: pair for name, pair in config.items() if not pair.same},
        tail=Pair(a=list(first.card.tail), b=list(second.card.tail)),
        labels=label_difference(before, after),
    )
