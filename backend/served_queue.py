"""The head of the queue that Label Studio serves, as `rarefirst queue` tells it.

Read from what was published and from the mirror: it answers beside a busy worker, and while
Label Studio is down.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from pydantic import BaseModel, ConfigDict

from backend.mirror_reader import MirrorReader
from backend.preannotation import class_of
from backend.projects import ProjectStore, ProjectStores, PublishedScores
from backend.queue_scores import queue_scores, rarity_of
from backend.settings import Settings
from backend.why_rare import HeadWhy, TaskWhy


class QueueEntry(BaseModel):
    """One task of the queue.

    Attributes:
        position: 1 is served next.
        score: what Label Studio orders by, lowest first; None where that is not known any more,
            as are ``rarity``, ``confidence``, ``predicted`` and ``reason`` then.
        rarity: likelihood that the task is of a rare class, in [0, 1].
        predicted: what the task looks like, of boxes the surest one's class, empty where nothing
            is known or there; confidence: how sure that is, in [0, 1].
        reason: why it stands where it stands: ``tail 7``, ``diversity``, ``control`` and so on.
        why: what it is like, and what the heads say; of the queue's head only.
    """

    model_config = ConfigDict(frozen=True)

    position: int
    task: int
    score: float | None = None
    rarity: float | None = None
    predicted: str = ""
    confidence: float | None = None
    reason: str = ""
    why: TaskWhy | None = None


class ServedQueue(BaseModel):
    """The published queue without what is labeled by now.

    Attributes:
        publication: its name in Label Studio, the project's model version; empty where nothing
            is published.
        version: the version that made the order; kind: what ordered it.
        size: tasks that were published; left: those of them that are not labeled.
        next: what the loop waits for where nothing is published.
        tasks: the first of what is left.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    publication: str = ""
    version: str = ""
    kind: str = ""
    published_at: datetime | None = None
    size: int = 0
    left: int = 0
    paused: bool = False
    next: str = ""
    tasks: tuple[QueueEntry, ...] = ()


def served_queue(settings: Settings, project_id: int, *, limit: int) -> ServedQueue:
    """The first ``limit`` tasks that are served next; all where it is 0.

    Raises:
        NotConnected: where the project is not connected.
        BackendError: where the mirror cannot be read.
    """
    store = ProjectStores(settings.data_dir, settings.label_studio_url).connected(project_id)
    published = store.publications().published
    if published is None:
        return ServedQueue(project=project_id, paused=store.paused, next=_waits_for(store))
    left = _unlabeled(store, published.task_ids)
    scores = store.published_scores(published.name)
    folder = store.path("publications", published.name)
    return ServedQueue(
        project=project_id,
        publication=published.name,
        version=published.version,
        kind=published.kind,
        published_at=published.published_at,
        size=len(published.task_ids),
        left=len(left),
        paused=store.paused,
        tasks=_entries(left[: limit or None], scores, HeadWhy.load(folder)),
    )


def _unlabeled(store: ProjectStore, task_ids: tuple[int, ...]) -> list[int]:
    """What of a queue nobody labeled or skipped, as the loop saw it last; in order."""
    tasks = MirrorReader(store.path("mirror")).tasks()
    if tasks is None:
        return list(task_ids)
    ids = np.asarray(task_ids, dtype=np.int64)
    return [int(i) for i in ids[np.isin(ids, tasks.ids[tasks.rows(state="unlabeled")])]]


def _entries(
    task_ids: list[int], scores: PublishedScores | None, why: HeadWhy
) -> tuple[QueueEntry, ...]:
    places = enumerate(task_ids, start=1)
    if scores is None:
        return tuple(QueueEntry(position=place, task=task) for place, task in places)
    value = queue_scores(scores)
    entries = []
    for place, task in places:
        row = scores.row(task)
        entries.append(
            QueueEntry(
                position=place,
                task=task,
                score=value.get(task),
                rarity=rarity_of(scores, task),
                predicted="" if row is None else class_of(scores.classes, scores, row),
                confidence=None if row is None else float(scores.confidence[row]),
                reason=scores.reasons.get(task, ""),
                why=why.by_task.get(task),
            )
        )
    return tuple(entries)


def _waits_for(store: ProjectStore) -> str:
    """What the loop said last of a project that serves nothing."""
    from backend.reports import ProjectReport

    if store.paused:
        return "the project is paused; `rarefirst resume` goes on"
    report = store.read("report.json", ProjectReport)
    if report is None:
        return "the loop did not look at the project yet; `rarefirst status` says whether it runs"
    reasons = [*report.problems, *report.why_not]
    if report.label_studio != "reachable":
        reasons.insert(0, report.label_studio)
    return "; ".join([*reasons, f"next: {report.next}"])
