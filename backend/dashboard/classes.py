"""How many labels each class has, which are rare, and how skewed they are."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from backend.reports import ProjectReport
from models.errors import ShapeError
from models.skewness import skewness_ratios


class ClassRow(BaseModel):
    """One class.

    Attributes:
        labels: labels of it; of boxes: boxes. images: labeled images that hold it, of boxes only.
        rare: it is in the tail.
        ratio: labels over the mean of all classes, of those that our queue did not choose (which
            is what decides whether it is rare); None where there is none yet.
        share: of the class with most labels, for a bar, in [0, 1].
    """

    model_config = ConfigDict(frozen=True)

    name: str
    labels: int
    images: int | None = None
    rare: bool = False
    ratio: float | None = None
    share: float = 0.0


class ClassesPanel(BaseModel):
    """All classes, the rare ones first, then by labels.

    Attributes:
        boxes: boxes are drawn.
        imbalance: labels of the most frequent class over those of the least frequent one that has
            some; None without labels of two classes.
        unchosen: labels that the ratios are from.
        threshold: a ratio below it makes a class rare.
        unknown: labels that the label config does not hold any more.
    """

    model_config = ConfigDict(frozen=True)

    boxes: bool = False
    rows: tuple[ClassRow, ...] = ()
    imbalance: float | None = None
    unchosen: int = 0
    threshold: float = 0.3
    unknown: dict[str, int] = {}


def classes_panel(
    report: ProjectReport, names: Sequence[str], *, boxes: bool, threshold: float
) -> ClassesPanel:
    """Count them.

    Args:
        report: of the last look.
        names: the label config's classes.
        boxes: boxes are drawn.
        threshold: the project's ``tail_threshold``.
    """
    names = list(dict.fromkeys([*names, *report.labels_by_class]))
    counts = {name: report.labels_by_class.get(name, 0) for name in names}
    ratios = _ratios(report, names)
    most = max(counts.values(), default=0)
    some = [count for count in counts.values() if count]
    rows = [
        ClassRow(
            name=name,
            labels=counts[name],
            images=report.images_by_class.get(name, 0) if boxes else None,
            rare=name in report.tail,
            ratio=ratios.get(name),
            share=counts[name] / most if most else 0.0,
        )
        for name in names
    ]
    return ClassesPanel(
        boxes=boxes,
        rows=tuple(sorted(rows, key=lambda row: (not row.rare, -row.labels, row.name))),
        imbalance=most / min(some) if len(some) > 1 else None,
        unchosen=report.unchosen,
        threshold=threshold,
        unknown=report.unknown_labels,
    )


def _ratios(report: ProjectReport, names: Sequence[str]) -> dict[str, float]:
    try:
        found = skewness_ratios([report.unchosen_by_class.get(name, 0) for name in names])
    except ShapeError:  # no label, or no class
        return {}
    return dict(zip(names, found.tolist(), strict=True))
