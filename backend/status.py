"""What `rarefirst status` tells: read from the files that the loop writes, nothing else.

It asks nobody and loads nothing, so it answers at once and works while everything is down.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from backend import heartbeat
from backend.finetunes import Finetunes
from backend.pinning import pinned
from backend.process_ids import process_space, runs_here
from backend.project_settings import ProjectSettings, kept
from backend.projects import ProgressNote, ProjectStore, ProjectStores, Publication
from backend.reconcile.reading_notes import READING_NOTES, ReadingNotes
from backend.reconcile.state import Failures
from backend.reports import (
    SERVICE_REPORT,
    FinetunesReport,
    ProjectReport,
    RareLeftReport,
    ServiceReport,
)
from backend.settings import Settings


class PublicationStatus(BaseModel):
    """The queue that Label Studio serves."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    kind: str
    published_at: datetime | None
    size: int
    left: int
    labels: int
    dropped: int


class LabelsStatus(BaseModel):
    """Labels of a project, counted in the ways that matter."""

    model_config = ConfigDict(frozen=True)

    total: int = 0
    by_class: dict[str, int] = Field(default_factory=dict)
    images_by_class: dict[str, int] = Field(
        default_factory=dict, description="where boxes are drawn, whose number is in by_class"
    )
    by_origin: dict[str, int] = Field(default_factory=dict)
    unknown: dict[str, int] = Field(default_factory=dict)
    skipped: int = 0
    conflicts: int = 0
    since_fit: int = 0


class UnreadableImage(BaseModel):
    """An image that could not be read, and when it is tried again."""

    model_config = ConfigDict(frozen=True)

    task: int
    image: str = Field(description="its address, without what must not be shown")
    reason: str
    tries: int
    next_try_at: datetime = Field(description="in the past: as soon as nothing else is to be done")


class NotedTask(BaseModel):
    """A task of whose annotations something is not taken as it is."""

    model_config = ConfigDict(frozen=True)

    task: int
    notes: tuple[str, ...]


class RunningFinetune(BaseModel):
    """A fine-tune that is not over: how far it is, or why it rests."""

    model_config = ConfigDict(frozen=True)

    number: int
    done: int = 0
    total: int = 0
    message: str = ""
    said_at: datetime | None = None
    seconds: float = Field(0.0, description="spent so far, over all tries")
    left_s: float | None = Field(None, description="seconds until it is done, at the pace so far")
    failure: str = Field("", description="why the last try ended before its time")
    next_try_at: datetime | None = None


class ProjectStatus(BaseModel):
    """One project: what is, what the loop does now, what comes next and why not yet."""

    model_config = ConfigDict(frozen=True)

    project: int
    title: str
    folder: str
    paused: bool
    label_studio: str
    looked_at: datetime | None
    doing: str
    done: int = 0
    total: int = 0
    left_s: float | None = Field(None, description="seconds until it is done, at the pace so far")
    next: str
    why_not: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    settings: dict[str, JsonValue] = Field(
        default_factory=dict, description="the project's own, from its connection's extra params"
    )
    tasks: int = 0
    embedded: int = 0
    failed: dict[str, int] = Field(default_factory=dict)
    unreadable: tuple[UnreadableImage, ...] = ()
    labels: LabelsStatus = LabelsStatus()
    noted: int = Field(0, description="tasks whose annotations are not taken as they are")
    notes: tuple[NotedTask, ...] = Field((), description="why, of the first 200 of them")
    tail: tuple[str, ...] = ()
    unlearnable: tuple[str, ...] = ()
    rare_left: RareLeftReport = RareLeftReport()
    backbone: str = ""
    version: str = ""
    pinned: str = Field("", description="the version that a person activated")
    publication: PublicationStatus | None = None
    finetune: FinetunesReport = FinetunesReport()
    finetune_running: RunningFinetune | None = None


class WorkerStatus(BaseModel):
    """Whether the worker lives."""

    model_config = ConfigDict(frozen=True)

    alive: bool
    heartbeat_age_s: float | None = None
    pid: int | None = None


class ServiceStatus(BaseModel):
    """Everything `rarefirst status` tells."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    label_studio_url: str
    label_studio: str = Field(description="how the last search for connected projects went")
    searched_at: datetime | None
    data_dir: str
    missing_settings: tuple[str, ...]
    worker: WorkerStatus
    projects: tuple[ProjectStatus, ...]


def service_status(settings: Settings, project_id: int | None = None) -> ServiceStatus:
    """Gather the status of every project, or of one."""
    service = _last_search(settings)
    stores = ProjectStores(settings.data_dir, settings.label_studio_url)
    found = [
        (card.project_id, status)
        for store in stores.all()
        if (card := store.card) is not None
        and (project_id is None or card.project_id == project_id)
        and (status := project_status(store)) is not None
    ]
    return ServiceStatus(
        at=datetime.now(UTC),
        label_studio_url=settings.label_studio_url,
        label_studio=service.label_studio if service is not None else "not looked at yet",
        searched_at=service.at if service is not None else None,
        data_dir=str(settings.data_dir),
        missing_settings=settings.missing,
        worker=worker_status(settings),
        projects=tuple(status for _, status in sorted(found, key=lambda pair: pair[0])),
    )


def _last_search(settings: Settings) -> ServiceReport | None:
    """How the worker's last search of this Label Studio went; None where there was none."""
    try:
        text = (settings.data_dir / SERVICE_REPORT).read_bytes()
        found = ServiceReport.model_validate_json(text)
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.label_studio_url == settings.label_studio_url else None


def worker_status(settings: Settings) -> WorkerStatus:
    """Whether the worker lives."""
    age = heartbeat.heartbeat_age_s(settings.data_dir)
    who = heartbeat.read(settings.data_dir)
    return WorkerStatus(
        alive=age is not None and age < heartbeat.STALE_S,
        heartbeat_age_s=None if age is None else round(age, 1),
        pid=who.pid if who is not None else None,
    )


def project_status(store: ProjectStore) -> ProjectStatus | None:
    """The status of one project; None where its folder does not say which it is."""
    card = store.card
    if card is None:
        return None
    report = store.read("report.json", ProjectReport)
    published = store.publications().published
    doing, note = _doing(store)
    pin = pinned(store)
    own = kept(store) or ProjectSettings()
    if report is None:
        return ProjectStatus(
            project=card.project_id,
            title=card.title,
            folder=str(store.root),
            paused=store.paused,
            label_studio="not looked at yet",
            looked_at=None,
            doing=doing,
            done=note.done,
            total=note.total,
            left_s=note.left_s,
            next="a first look at the project",
            pinned=pin.version if pin else "",
            problems=own.problems,
            settings=own.overrides,
            publication=_publication(published, 0),
        )
    return ProjectStatus(
        project=card.project_id,
        title=report.title or card.title,
        folder=str(store.root),
        paused=store.paused,
        label_studio=report.label_studio,
        looked_at=report.at,
        doing=doing,
        done=note.done,
        total=note.total,
        left_s=note.left_s,
        next="nothing, paused; `rarefirst resume` goes on" if store.paused else report.next,
        why_not=report.why_not,
        problems=(*report.problems, *own.problems),
        settings=own.overrides,
        drift=report.drift,
        tasks=report.tasks,
        embedded=report.embedded,
        failed=report.failed,
        unreadable=_unreadable(store),
        labels=LabelsStatus(
            total=report.labeled,
            by_class=report.labels_by_class,
            images_by_class=report.images_by_class,
            by_origin=report.labels_by_origin,
            unknown=report.unknown_labels,
            skipped=report.skipped,
            conflicts=report.conflicts,
            since_fit=report.labels_since_fit,
        ),
        noted=report.noted,
        notes=_notes(store),
        tail=report.tail,
        unlearnable=report.unlearnable,
        rare_left=report.rare_left,
        backbone=report.backbone,
        version=report.version,
        pinned=pin.version if pin else "",
        publication=_publication(published, report.queue_left),
        finetune=report.finetune,
        finetune_running=running_finetune(store),
    )


def running_finetune(store: ProjectStore) -> RunningFinetune | None:
    """The fine-tune that is not over, as its own process tells it; None where there is none."""
    run = Finetunes(store).current()
    if run is None:
        return None
    told, record = run.progress, run.record
    return RunningFinetune(
        number=run.number,
        done=told.done,
        total=told.total,
        message=told.message,
        said_at=told.at if told.pid else None,
        seconds=round(told.seconds, 1),
        left_s=told.seconds / told.done * (told.total - told.done) if told.done else None,
        failure=record.failure,
        next_try_at=datetime.fromtimestamp(record.retry_s, UTC) if record.failure else None,
    )


def _unreadable(store: ProjectStore) -> tuple[UnreadableImage, ...]:
    """The images that could not be read, those that are tried next first."""
    kept = store.read("failures.json", Failures) or Failures()
    images = [
        UnreadableImage(
            task=task_id,
            image=failure.image,
            reason=failure.reason,
            tries=failure.tries,
            next_try_at=datetime.fromtimestamp(failure.next_try_s, UTC),
        )
        for task_id, failure in kept.by_task.items()
    ]
    return tuple(sorted(images, key=lambda image: (image.next_try_at, image.task)))


def _notes(store: ProjectStore) -> tuple[NotedTask, ...]:
    """What was noted while annotations were read, by task."""
    kept = store.read(READING_NOTES, ReadingNotes) or ReadingNotes()
    return tuple(NotedTask(task=task, notes=notes) for task, notes in sorted(kept.by_task.items()))


def _publication(published: Publication | None, left: int) -> PublicationStatus | None:
    if published is None:
        return None
    return PublicationStatus(
        name=published.name,
        version=published.version,
        kind=published.kind,
        published_at=published.published_at,
        size=len(published.task_ids),
        left=left,
        labels=published.labels,
        dropped=published.dropped,
    )


def _doing(store: ProjectStore) -> tuple[str, ProgressNote]:
    """What the loop does now; a note of a process that died says nothing."""
    note = store.progress()
    if note.doing == "nothing" or not _lives(store, note):
        return "nothing", ProgressNote()
    words = f"{note.doing}: {note.message}" if note.message else note.doing
    if note.since is not None:
        words += f" (last word {max(0, time.time() - note.since.timestamp()):.0f} s ago)"
    return words, note


def _lives(store: ProjectStore, note: ProgressNote) -> bool:
    """Whether the process that said so lives; of another container the worker's heart tells."""
    if note.space in ("", process_space()):
        return runs_here(note.pid)
    age = heartbeat.heartbeat_age_s(store.root.parent.parent)
    return age is not None and age < heartbeat.STALE_S
