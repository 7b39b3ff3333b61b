"""How sure a mean over repeated hold-outs is.

Hold-outs of the same labels overlap, so their spread says too little: the interval is widened by
the share of labels that each of them hides.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import stdtrit

from models.errors import ShapeError
from models.types import FloatArray


class Interval(BaseModel):
    """A mean, and between what the true one lies."""

    model_config = ConfigDict(frozen=True)

    mean: float
    low: float
    high: float


def resampled_interval(
    values: FloatArray,
    *,
    hidden_to_known: float,
    confidence: float = 0.95,
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Mean over R hold-outs of the same labels, with the corrected resampled t interval.

    Args:
        values: (R,) one figure a hold-out, or one difference of two on the same hold-out.
        hidden_to_known: how many labels are hidden for each that is learned from.
        confidence: of the interval, in (0, 1).
        within: what the figure cannot leave.

    Returns: mean +- t s sqrt(1 / R + hidden_to_known), with s the standard deviation.
    Raises: ShapeError: for fewer than two hold-outs.
    Source: Nadeau and Bengio 2003, "Inference for the Generalization Error", Machine Learning 52,
    239-281: the corrected resampled t-test.
    """
    count = len(values)
    if count < 2:
        raise ShapeError(f"found {count} hold-out(s); expected two at least for an interval")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = float(stdtrit(count - 1, (1 + confidence) / 2))
    half = reach * spread * math.sqrt(1 / count + hidden_to_known)
    return Interval(mean=mean, low=max(mean - half, within[0]), high=min(mean + half, within[1]))
