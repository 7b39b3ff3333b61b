"""Rare labels found over labels given, against what random order would have found.

Both begin at the first round: labels from before our queue are nobody's merit. How rare the rare
are is told by the random control slice where there is one (what was found since and what is left,
of the pool); else by the labels that our queue did not choose. Where people picked the first of
those by hand, that is too much, and random order looks better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from backend.reports import ProjectReport, RareEstimate, RoundEntry

Item = TypeVar("Item")

_Z = 1.96  # 95 %
_MOST_POINTS = 400
_MOST_CLASSES = 12


class FoundCurve(BaseModel):
    """One rare class, or all of them together.

    Attributes:
        name: of the class; empty for all together.
        begun: labels that were there at the first point.
        found: images with it among the first labels, point by point of the panel.
        prevalence: share of images with it; low, high: a 95 % interval. None where nothing tells.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    begun: int
    found: tuple[int, ...]
    prevalence: float | None = None
    low: float | None = None
    high: float | None = None

    def expected(self, labels: int) -> tuple[float, float, float] | None:
        """What random order has found with so many labels: the likely number and its interval."""
        if self.prevalence is None or self.low is None or self.high is None:
            return None
        first, more = self.found[0], labels - self.begun
        return first + self.prevalence * more, first + self.low * more, first + self.high * more

    def times(self, labels: int) -> float | None:
        """How many times as many as by random order were found since; None where nothing tells."""
        by_chance = (self.prevalence or 0.0) * (labels - self.begun)
        return (self.found[-1] - self.found[0]) / by_chance if by_chance else None


class FoundPanel(BaseModel):
    """All curves over the same points.

    Attributes:
        labels: labels given, point by point, ascending.
        by_control: how rare the rare are is told by the control slice; else by ``unchosen`` labels.
    """

    model_config = ConfigDict(frozen=True)

    labels: tuple[int, ...] = ()
    curves: tuple[FoundCurve, ...] = ()
    by_control: bool = False
    unchosen: int = 0

    @property
    def total(self) -> int:
        """Labels given so far."""
        return self.labels[-1] if self.labels else 0


def found_panel(
    history: Sequence[RoundEntry], report: ProjectReport, *, boxes: bool = False
) -> FoundPanel:
    """Read the curves off the rounds; of labels that were taken back the later count is shown.

    Args:
        history: every round.
        report: of the last look.
        boxes: boxes are drawn; what is counted is images, which older rounds did not write down
            class by class.
    """
    entries = [entry for _, entry in thinned(_points(history))]
    if not entries or not report.tail:
        return FoundPanel(unchosen=report.unchosen)
    left = report.rare_left
    curves = [
        _curve("", entries, [one.rare_found for one in entries], left.total, report.unchosen_rare)
    ]
    by_class = [entry.images_by_class if boxes else entry.labels_by_class for entry in entries]
    if len(report.tail) > 1 and not (boxes and {} in by_class):
        curves += [
            _curve(
                name,
                entries,
                [counts.get(name, 0) for counts in by_class],
                left.by_class.get(name),
                report.unchosen_by_class.get(name, 0),
            )
            for name in report.tail[:_MOST_CLASSES]
        ]
    return FoundPanel(
        labels=tuple(_labels(entry) for entry in entries),
        curves=tuple(_with_prevalence(one, report) for one in curves),
        by_control=left.total is not None and left.tasks > 0,
        unchosen=report.unchosen,
    )


def _labels(entry: RoundEntry) -> int:
    return sum(entry.labels_by_origin.values())


def _points(history: Sequence[RoundEntry]) -> list[tuple[int, RoundEntry]]:
    """The last round with each number of labels, ascending."""
    points: list[tuple[int, RoundEntry]] = []
    for entry in history:
        labels = _labels(entry)
        while points and points[-1][0] >= labels:
            points.pop()
        points.append((labels, entry))
    return points


def thinned(values: Sequence[Item], most: int = _MOST_POINTS) -> list[Item]:
    """As many as a picture can show, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(k * step)] for k in range(most)]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """A 95 % interval of a share (Wilson 1927): 0 and 1 where nothing was counted."""
    if count <= 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z * _Z
    middle = share + z2 / (2 * count)
    half = _Z * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    scale = 1 + z2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True)
class _Counted:
    """A curve's points, and what may tell how rare its class is."""

    name: str
    labels: tuple[int, int]  # at the first point and at the last
    found: tuple[int, ...]
    left: RareEstimate | None
    hits: int


def _curve(
    name: str,
    entries: Sequence[RoundEntry],
    found: Sequence[int],
    left: RareEstimate | None,
    hits: int,
) -> _Counted:
    ends = _labels(entries[0]), _labels(entries[-1])
    return _Counted(name, ends, tuple(found), left, hits)


def _with_prevalence(one: _Counted, report: ProjectReport) -> FoundCurve:
    begun, now = one.labels
    curve = FoundCurve(name=one.name, begun=begun, found=one.found)
    if one.left is not None and report.rare_left.tasks:
        pool = now - begun + report.rare_left.tasks
        since = one.found[-1] - one.found[0]
        shares = [(since + left) / pool for left in (one.left.likely, one.left.low, one.left.high)]
    elif report.unchosen:
        shares = [one.hits / report.unchosen, *wilson(one.hits, report.unchosen)]
    else:
        return curve
    likely, low, high = (min(1.0, max(0.0, share)) for share in shares)
    return curve.model_copy(update={"prevalence": likely, "low": low, "high": high})
