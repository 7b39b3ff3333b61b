"""A published queue, as the loop leaves it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from backend.projects import ProjectStore, Publication, Publications, PublishedScores
from tests.recorded import CLASSES


def publish(
    store: ProjectStore,
    ids: Sequence[int],
    rarity: Sequence[float],
    *,
    name: str = "rarefirst-v0007-abc123",
    boxes: NDArray[np.floating] | None = None,
) -> Publication:
    """Publish rarities of some tasks, and what boxes they hold, as the loop does."""
    count = len(ids)
    queue = np.asarray(ids, dtype=np.int64)[np.argsort(-np.asarray(rarity), kind="stable")]
    scores = PublishedScores(
        ids=np.asarray(ids, dtype=np.int64),
        rarity=np.asarray(rarity, dtype=np.float32),
        predicted=np.arange(count, dtype=np.int64) % len(CLASSES),
        confidence=np.full(count, 0.75, dtype=np.float32),
        classes=CLASSES,
        queue=queue,
        reasons=("tail ship",) * count,
        boxes=boxes,
    )
    folder = store.path("publications", name)
    folder.mkdir(parents=True)
    scores.save(folder)
    now = datetime.now(UTC)
    publication = Publication(
        name=name,
        version="v0007",
        kind="rarefirst",
        state="published",
        created_at=now,
        published_at=now,
        task_ids=tuple(int(i) for i in queue),
        labels=40,
    )
    before = store.publications().published
    store.write("publication.json", Publications(published=publication, previous=before))
    return publication
