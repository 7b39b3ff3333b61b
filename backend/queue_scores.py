"""What Label Studio orders a published queue by: told the same by publishing and by `queue`."""

from __future__ import annotations

from backend.labelstudio.results import published_scores
from backend.projects import PublishedScores


def queue_scores(scores: PublishedScores) -> dict[int, float]:
    """The score of each task of the queue, by id, in queue order: lowest is served first.

    Rarities belong to tasks, scores to places: the k-th place gets the k-th largest rarity.
    """
    order = [int(i) for i in scores.queue]
    rarity = sorted((rarity_of(scores, task) for task in order), reverse=True)
    return dict(zip(order, published_scores(rarity), strict=True))


def rarity_of(scores: PublishedScores, task: int) -> float:
    """Likelihood that a task is of a rare class; 0 where nothing is known of it."""
    row = scores.row(task)
    return 0.0 if row is None else float(scores.rarity[row])
