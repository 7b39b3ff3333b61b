"""Whether a figure grows: its slope by least squares, with an interval.

Samples that follow each other closely resemble each other, which would make the interval far too
narrow; so what is fitted are the means of minutes, each taken for one value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t


@dataclass(frozen=True)
class Slope:
    """How a figure changes.

    Attributes:
        per_hour: the slope.
        low, high: its 95 % interval.
        mean: of the figure.
        blocks: means that were fitted.
    """

    per_hour: float
    low: float
    high: float
    mean: float
    blocks: int

    def told(self) -> dict[str, float | int]:
        """For a result."""
        return {
            "per_hour": round(self.per_hour, 3),
            "low": round(self.low, 3),
            "high": round(self.high, 3),
            "mean": round(self.mean, 2),
            "blocks": self.blocks,
        }


def slope(
    times_s: Sequence[float],
    values: Sequence[float],
    *,
    block_s: float = 60.0,
    confidence: float = 0.95,
) -> Slope:
    """The slope of the means of blocks.

    Args:
        times_s: when each value was taken, ascending.
        values: the figure.
        block_s: length of a block.
        confidence: of the interval.

    Raises:
        ValueError: fewer than three blocks.
    """
    times, taken = np.asarray(times_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    number = np.floor((times - times[:1]) / block_s).astype(int) if len(times) else np.empty(0, int)
    kinds = np.unique(number)
    if len(kinds) < 3:
        raise ValueError(f"found {len(kinds)} blocks of {block_s:g} s, expected 3: measure longer")
    hours = np.array([times[number == kind].mean() for kind in kinds]) / 3600
    means = np.array([taken[number == kind].mean() for kind in kinds])
    away = hours - hours.mean()
    spread = float(away @ away)
    per_hour = float(away @ means) / spread
    rest = means - means.mean() - per_hour * away
    error = (float(rest @ rest) / (len(kinds) - 2) / spread) ** 0.5
    wide = float(student_t.ppf(0.5 + confidence / 2, len(kinds) - 2)) * error
    return Slope(per_hour, per_hour - wide, per_hour + wide, float(means.mean()), len(kinds))
