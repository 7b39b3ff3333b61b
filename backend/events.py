"""What Label Studio's requests mean for the loop: versions told, hints taken, nothing computed.

Everything here reads or touches small files and answers in milliseconds, also while the worker
trains.
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict

from backend.jobs import Jobs
from backend.marks import Marks
from backend.pinning import pinned
from backend.project_settings import digest, kept
from backend.projects import Hint, ProjectStore
from backend.reports import ProjectReport
from backend.schemas import ProjectRef, SetupRequest, WebhookEvent

logger = logging.getLogger(__name__)

HINTS: dict[str, Hint] = {
    "ANNOTATION_CREATED": "changed",
    "ANNOTATION_UPDATED": "changed",
    "ANNOTATIONS_CREATED": "changed",
    "ANNOTATIONS_DELETED": "deleted",
    "TASKS_CREATED": "changed",
    "TASKS_DELETED": "deleted",
    "PROJECT_UPDATED": "changed",
    "START_TRAINING": "force_fit",
}
# Numbers no longer than ids and milliseconds are: the key becomes the name of a folder.
_JOB = re.compile(r"(?P<key>(?P<project>[0-9]{1,19})-[0-9a-f]{8})\.(?P<at>[0-9]{1,19})")


class JobStatus(BaseModel):
    """How far a training is that a person asked for.

    ``queued`` until the loop has begun, ``started`` while it works on it, then ``finished``; or
    ``failed`` where a round had nothing to fit or could not, and ``why``. The wish stays: once
    there is something to fit the job goes on.
    """

    model_config = ConfigDict(frozen=True)

    job: str
    job_status: Literal["queued", "started", "finished", "failed"]
    project: int
    doing: str = ""
    done: int = 0
    total: int = 0
    why: str = ""


def published_name(jobs: Jobs, store: ProjectStore | None) -> str:
    """The one name that /setup and /predict both tell."""
    published = store.publications().published if store is not None else None
    return published.name if published is not None else jobs.unpublished


def model_version(jobs: Jobs, project: ProjectRef | None) -> str:
    """The published version of a project; one that is new to us is asked after."""
    if project is None:
        return jobs.unpublished
    store = jobs.store(project.id, project.created_s)
    marks(jobs, store).leave("setup")
    if store is None:
        jobs.register(project.id)
    return published_name(jobs, store)


def marks(jobs: Jobs, store: ProjectStore | None) -> Marks:
    """Where calls of a project are marked; of those that are not known, in one place."""
    return Marks(jobs.settings.data_dir if store is None else store.root)


def setup(jobs: Jobs, asked: SetupRequest) -> str:
    """What /setup answers. Extra params that are new to us are worth a look at the real ones."""
    project = asked.project
    store = jobs.store(project.id, project.created_s) if project is not None else None
    if project is not None and store is not None and "extra_params" in asked.model_fields_set:
        known = kept(store)
        if known is not None and digest(asked.extra_params) not in known.seen:
            jobs.hint(project.id, project.created_s, "settings")
    return model_version(jobs, project)


def take(jobs: Jobs, event: WebhookEvent) -> dict[str, str]:
    """Turn a webhook into a hint; events that change nothing for us are answered and forgotten."""
    hint = HINTS.get(event.action) if isinstance(event.action, str) else None
    project = event.ref
    if hint is None or project is None:
        return {"status": "ignored"}
    marks(jobs, jobs.store(project.id, project.created_s)).leave_event(str(event.action))
    if event.action == "START_TRAINING" and not _may_be_a_label(jobs, project, event):
        return force_fit(jobs, project)
    if event.action == "START_TRAINING":
        hint = "changed"
    if event.action == "PROJECT_UPDATED" and not _config_changed(jobs, project, event):
        return {"status": "ignored"}
    jobs.hint(project.id, project.created_s, hint)
    return {"status": "noted"}


def force_fit(jobs: Jobs, project: ProjectRef) -> dict[str, str]:
    """Ask for a fit now; the answer names a job for /job_status."""
    store = jobs.hint(project.id, project.created_s, "force_fit")
    at = store.hinted_at("force_fit") if store is not None else None
    if store is None or at is None:
        # Unknown yet, or done between two lines: the first round fits anyway.
        return {"status": "noted"}
    return {"status": "noted", "job": f"{store.key}.{int(at * 1000)}"}


def job(jobs: Jobs, name: str) -> JobStatus | None:
    """The state of a job, or None where there is no such project."""
    match = _JOB.fullmatch(name)
    if match is None:
        return None
    store = ProjectStore(jobs.stores.root / match["key"])
    card = store.card
    if card is None:
        return None
    return _status(jobs, store, name, card.project_id)


def jobs(queue: Jobs) -> list[JobStatus]:
    """Every job that is not finished."""
    found = []
    for store in queue.stores.all():
        at, card = store.hinted_at("force_fit"), store.card
        if at is not None and card is not None:
            name = f"{store.key}.{int(at * 1000)}"
            found.append(_status(queue, store, name, card.project_id))
    return found


def _status(jobs: Jobs, store: ProjectStore, name: str, project: int) -> JobStatus:
    asked_at = store.hinted_at("force_fit")
    if asked_at is None:
        return JobStatus(job=name, job_status="finished", project=project)
    progress = store.progress()
    if progress.doing != "nothing":
        return JobStatus(
            job=name,
            job_status="started",
            project=project,
            doing=progress.doing,
            done=progress.done,
            total=progress.total,
        )
    why = "" if store.paused or jobs.waits(store.key) else _why_nothing_was_fitted(store, asked_at)
    return JobStatus(
        job=name,
        job_status="failed" if why else "queued",
        project=project,
        doing=progress.doing,
        why=why,
    )


def _why_nothing_was_fitted(store: ProjectStore, asked_at: float) -> str:
    """What a round said that came after the wish and left it standing; empty if none came yet."""
    report = store.read("report.json", ProjectReport)
    if report is None or report.at.timestamp() < asked_at:
        return ""
    if report.label_studio != "reachable":
        return report.label_studio
    return "; ".join((*report.problems, *report.why_not, report.next))


def versions(jobs: Jobs, project: str | None) -> list[str]:
    """Names of the published and the previous versions, newest first, each once."""
    number, _, created = (project or "").partition(".")
    if number.isdecimal():
        one = jobs.store(int(number), int(created) if created.isdecimal() else None)
        stores = [one] if one is not None else []
    else:
        stores = jobs.stores.all()
    names = [
        publication.name
        for store in stores
        for publication in (store.publications().published, store.publications().previous)
        if publication is not None
    ]
    return list(dict.fromkeys(names)) or [jobs.unpublished]


def _may_be_a_label(jobs: Jobs, project: ProjectRef, event: WebhookEvent) -> bool:
    """Whether a START_TRAINING must not end what a person activated.

    A press cannot be told from a label where the project's toggle has each label train.
    """
    if not event.each_label_trains:
        return False
    store = jobs.store(project.id, project.created_s)
    return store is not None and pinned(store) is not None


def _config_changed(jobs: Jobs, project: ProjectRef, event: WebhookEvent) -> bool:
    """Whether the label config differs from the last one the loop read.

    PROJECT_UPDATED comes for everything, our own switch of the model version included.
    """
    store = jobs.store(project.id, project.created_s)
    if store is None or event.label_config is None:
        return True
    try:
        seen = store.path("label_config.sha256").read_text(errors="replace").strip()
    except FileNotFoundError:
        return True
    return hashlib.sha256(event.label_config.encode(errors="replace")).hexdigest() != seen
