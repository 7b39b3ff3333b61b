"""From rarity to the scores that Label Studio orders by; the only place where rarity is flipped.

Inside, rarity is high-first; Label Studio serves the lowest score first. The k-th task of a queue
is published with ``1 - (k-th largest rarity)``: strictly following the queue, and still readable
as a likelihood. Scores are always in [0, 1]: Label Studio silently drops others, and serves a
missing score before all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MIN_GAP = 1e-7
"""Least distance between two published scores: above float32's step below 1 (6e-8)."""

LAST_PLACE = 1.0

Region = Mapping[str, object]

_ROUNDING = 1e-6  # how far a float32 likelihood may lie outside [0, 1]


def published_scores(rarities: Sequence[float]) -> list[float]:
    """Scores for a queue: position k gets 1 - (k-th largest rarity), strictly increasing.

    Args:
        rarities: of the tasks in queue order, in [0, 1]. Their own order does not matter: the
            queue's does, since quotas and diversity may put a less rare task first.

    Returns:
        As many scores, in [0, 1], strictly increasing by at least ``MIN_GAP`` (less only for
        queues so long that they would not fit otherwise).

    Raises:
        ValueError: a rarity is not a number in [0, 1].
    """
    count = len(rarities)
    if count == 0:
        return []
    gap = min(MIN_GAP, 0.5 / count)
    scores = sorted(1.0 - _unit(rarity) for rarity in rarities)
    # Equal scores are spread upwards; then whatever was pushed over the top, downwards.
    for place in range(1, count):
        scores[place] = max(scores[place], scores[place - 1] + gap)
    return [
        min(score, LAST_PLACE - gap * (count - 1 - place)) for place, score in enumerate(scores)
    ]


def live_score(rarity: float) -> float:
    """The score of a single task that is answered live."""
    return 1.0 - _unit(rarity)


def last_place() -> float:
    """The score of a task that nothing can be said of: after all that are ranked."""
    return LAST_PLACE


def predict_answer(
    score: float, *, model_version: str, result: Sequence[Region] = ()
) -> dict[str, object]:
    """One item of a ``/predict`` answer; ``result`` is always there and always a list.

    Raises:
        ValueError: the score is not a number in [0, 1]; Label Studio would drop it, or answer
            the annotator with an error.
    """
    return {
        "result": [dict(region) for region in result],
        "score": _unit(score),
        "model_version": model_version,
    }


def _unit(value: float) -> float:
    """The value, without the rounding of float32 arithmetic."""
    if not (math.isfinite(value) and -_ROUNDING <= value <= 1.0 + _ROUNDING):
        raise ValueError(f"found {value!r}, expected a number in [0, 1]")
    return min(max(float(value), 0.0), 1.0)
