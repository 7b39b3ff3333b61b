"""What is drawn: one curve an order, with its interval, and a colour that stays its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import ShapeError

#: Of the first eight orders; distinguishable with colour-blind eyes too (Okabe and Ito 2008).
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#000000",
)  # fmt: skip
GREY = "#7f868f"


@dataclass(frozen=True)
class Curve:
    """Rare ones found against labels given.

    Attributes:
        name: of the order.
        labels: (P,) labels given, ascending.
        found: (P,) mean found by then.
        low: (P,) lower end of the interval.
        high: (P,) upper end of it.
        baseline: drawn grey and dashed: what the others are measured against.
    """

    name: str
    labels: Sequence[float]
    found: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    baseline: bool = False


def coloured(curves: Sequence[Curve]) -> list[tuple[Curve, str]]:
    """Each curve with its colour.

    Raises: ShapeError: if there is none, or one whose sequences differ in length.
    """
    for curve in curves:
        sizes = {len(curve.labels), len(curve.found), len(curve.low), len(curve.high)}
        if len(sizes) > 1 or not len(curve.labels):
            raise ShapeError(f"found a curve {curve.name!r} with sequences of lengths {sizes}")
    if not curves:
        raise ShapeError("found no curve to draw; expected one at least")
    colours = iter(COLOURS * (1 + len(curves) // len(COLOURS)))
    return [(curve, GREY if curve.baseline else next(colours)) for curve in curves]
