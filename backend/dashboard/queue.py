"""The head of the published queue: what stands there, how rare it looks, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from backend.dashboard.pictures import Picture, Pictures
from backend.mirror_reader import MirrorReader
from backend.preannotation import class_of
from backend.projects import ProjectStore, PublishedScores
from backend.settings import Settings
from backend.why_rare import HeadWhy, TaskWhy

SHOWN = 24
_LOOKED_UP = 500  # tasks asked for at once: the first unlabeled ones are mostly among them
_WORDS = {
    "control": "drawn at random, as a check",
    "diversity": "unlike what is labeled",
    "random": "random order",
}


class NearCard(BaseModel):
    """A labeled task of a rare class that a queued one is like."""

    model_config = ConfigDict(frozen=True)

    task: int
    label: str
    distance: float | None
    picture: Picture


class QueueCard(BaseModel):
    """One task.

    Attributes:
        position: 1 is served next.
        rarity, confidence: in [0, 1]; None where nothing is known.
        predicted: what it looks like; of boxes its surest one's class.
        why: why it stands there, in words.
        rare: more of why: tail mass, reconstruction error, detections; None where nothing is kept.
        near: labeled tasks of rare classes that it is like, the nearest first.
    """

    model_config = ConfigDict(frozen=True)

    position: int
    task: int
    picture: Picture
    rarity: float | None = None
    predicted: str = ""
    confidence: float | None = None
    why: str = ""
    rare: TaskWhy | None = None
    near: tuple[NearCard, ...] = ()


class QueuePanel(BaseModel):
    """The first tasks that are left of what is published; no name where nothing is."""

    model_config = ConfigDict(frozen=True)

    publication: str = ""
    version: str = ""
    kind: str = ""
    published_at: datetime | None = None
    size: int = 0
    cards: tuple[QueueCard, ...] = ()


def queue_panel(settings: Settings, store: ProjectStore, *, images: bool) -> QueuePanel:
    """Read it from the publication; of the mirror only the tasks that are shown.

    Args:
        settings: the service's.
        store: the project's folder.
        images: pictures may be shown.

    Raises:
        BackendError: where the mirror cannot be read.
    """
    published = store.publications().published
    if published is None:
        return QueuePanel()
    uris = _head(store, published.task_ids)
    scores = store.published_scores(published.name)
    why = HeadWhy.load(store.path("publications", published.name)).by_task
    pictures = Pictures(settings, store, shown=images)
    near = _near(store, pictures, {task: why[task] for task in uris if task in why})
    return QueuePanel(
        publication=published.name,
        version=published.version,
        kind=published.kind,
        published_at=published.published_at,
        size=len(published.task_ids),
        cards=tuple(
            _card(place, task, pictures.of(uri), scores).model_copy(
                update={"rare": why.get(task), "near": near.get(task, ())}
            )
            for place, (task, uri) in enumerate(uris.items(), start=1)
        ),
    )


def _near(
    store: ProjectStore, pictures: Pictures, why: Mapping[int, TaskWhy]
) -> dict[int, tuple[NearCard, ...]]:
    """What each task is like, with pictures; tasks that are gone since are left out."""
    wanted = {near.task for one in why.values() for near in one.nearest}
    tasks = MirrorReader(store.path("mirror")).some(wanted) if wanted else None
    if tasks is None:
        return {}
    uris = dict(zip(tasks.ids.tolist(), tasks.uris.tolist(), strict=True))
    return {
        task: tuple(
            NearCard(
                task=near.task,
                label=near.label,
                distance=near.distance,
                picture=pictures.of(str(uris[near.task])),
            )
            for near in one.nearest
            if near.task in uris
        )
        for task, one in why.items()
    }


def why_words(reason: str) -> str:
    """Why a task stands where it stands, for people."""
    kind, _, name = reason.partition(" ")
    if kind == "tail" and name:
        return f"the turn of {name}"
    return _WORDS.get(reason, reason)


def _head(store: ProjectStore, task_ids: tuple[int, ...]) -> Mapping[int, str]:
    """Image addresses of the first tasks that nobody labeled or skipped, in order."""
    reader = MirrorReader(store.path("mirror"))
    found: dict[int, str] = {}
    for start in range(0, len(task_ids), _LOOKED_UP):
        some = task_ids[start : start + _LOOKED_UP]
        left = _unlabeled(reader, some)
        if left is None:
            return dict.fromkeys(task_ids[:SHOWN], "")
        found |= {task: left[task] for task in some if task in left}
        if len(found) >= SHOWN:
            break
    return dict(list(found.items())[:SHOWN])


def _unlabeled(reader: MirrorReader, ids: Collection[int]) -> dict[int, str] | None:
    tasks = reader.some(ids)
    if tasks is None:
        return None
    rows = tasks.rows(state="unlabeled")
    return {int(tasks.ids[row]): str(tasks.uris[row]) for row in rows}


def _card(place: int, task: int, picture: Picture, scores: PublishedScores | None) -> QueueCard:
    row = scores.row(task) if scores is not None else None
    if scores is None or row is None:
        return QueueCard(position=place, task=task, picture=picture)
    return QueueCard(
        position=place,
        task=task,
        picture=picture,
        rarity=float(scores.rarity[row]),
        predicted=class_of(scores.classes, scores, row),
        confidence=float(scores.confidence[row]),
        why=why_words(scores.reasons.get(task, "")),
    )
