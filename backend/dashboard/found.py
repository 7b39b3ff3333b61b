"""Rare labels found over labels given, against what random order would have found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from backend.reports import ProjectReport, RoundEntry

Item = TypeVar("Item")

_Z = 1.96  # 95 %
_MOST_POINTS = 400
_MOST_CLASSES = 12


class FoundCurve(BaseModel):
    """One rare class, or all of them together.

    Attributes:
        name: of the class; empty for all together.
        found: images with it among the first labels, point by point of the panel.
        prevalence: share of the labels that our queue did not choose; low, high: a 95 % interval
            of the true share (Wilson's). None where there is no such label.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    found: tuple[int, ...]
    prevalence: float | None = None
    low: float | None = None
    high: float | None = None

    def expected(self, labels: int) -> tuple[float, float, float] | None:
        """What random order finds with so many labels: the likely number and its interval."""
        if self.prevalence is None or self.low is None or self.high is None:
            return None
        return self.prevalence * labels, self.low * labels, self.high * labels

    def times(self, labels: int) -> float | None:
        """How many times as many as random order were found; None where that is not known."""
        expected = self.expected(labels)
        if expected is None or not expected[0] or not self.found:
            return None
        return self.found[-1] / expected[0]


class FoundPanel(BaseModel):
    """All curves over the same points.

    Attributes:
        labels: labels given, point by point, ascending.
        unchosen: labels that the expectation is from.
    """

    model_config = ConfigDict(frozen=True)

    labels: tuple[int, ...] = ()
    curves: tuple[FoundCurve, ...] = ()
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
    curves = [_curve("", [entry.rare_found for entry in entries], report.unchosen_rare, report)]
    by_class = [entry.images_by_class if boxes else entry.labels_by_class for entry in entries]
    if len(report.tail) > 1 and not (boxes and {} in by_class):
        curves += [
            _curve(
                name,
                [counts.get(name, 0) for counts in by_class],
                report.unchosen_by_class.get(name, 0),
                report,
            )
            for name in report.tail[:_MOST_CLASSES]
        ]
    return FoundPanel(
        labels=tuple(_labels(entry) for entry in entries),
        curves=tuple(curves) if entries and report.tail else (),
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


def _curve(name: str, found: Sequence[int], hits: int, report: ProjectReport) -> FoundCurve:
    if not report.unchosen:
        return FoundCurve(name=name, found=tuple(found))
    low, high = wilson(hits, report.unchosen)
    return FoundCurve(
        name=name, found=tuple(found), prevalence=hits / report.unchosen, low=low, high=high
    )
