"""How the step size moves over a training."""

from __future__ import annotations

import math

#: Shares of the epochs after which ``step`` divides by a hundred: 160 and 180 of 200 in the recipe
#: that LDAM and M2m share (METHODS section 9).
STEPS_AT = (0.8, 0.9)
_STEP = 0.01


def step_size_factor(schedule: str, *, warm_up: float, step: int, steps: int, epochs: int) -> float:
    """What the largest step size is multiplied by.

    Args:
        schedule: ``step``, ``cosine`` or ``constant``.
        warm_up: share of the epochs in which it grows linearly.
        step: counted from 0 over all epochs.
        steps: of one epoch.
        epochs: how many there will be.
    Returns: in (0, 1] before the last step of ``cosine``.
    """
    growing = warm_up * epochs * steps
    if step < growing:
        return min((step + 1) / growing, 1.0)
    if schedule == "constant":
        return 1.0
    if schedule == "cosine":
        done = (step - growing) / max(epochs * steps - growing, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return _STEP ** sum(step // steps >= round(share * epochs) for share in STEPS_AT)
