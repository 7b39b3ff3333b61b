"""Sync: the mirror holds every task of the project and its current label vote.

Reads what changed since the newest ``updated_at`` seen (by Label Studio's clock, with overlap,
since a transaction may commit later than its time stamp says). Deleted tasks simply vanish from
Label Studio's answers, so ids are compared whenever the number of tasks does not fit, something
was deleted, or the last comparison is long ago.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from backend.errors import UnsupportedLabelConfig
from backend.files import write_atomically
from backend.labelstudio.client import TaskRecord
from backend.labelstudio.interface import (
    ImageChoices,
    config_sha256,
    label_config_digest,
    parse_label_config,
)
from backend.mirror import MirroredTask
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan
from backend.reconcile.votes import vote

logger = logging.getLogger(__name__)

_OVERLAP = timedelta(seconds=15)
_WRITE_EVERY = 1000


def run(context: ProjectContext, plan: Plan) -> None:
    """Read what changed in Label Studio into the mirror."""
    context.begin_looking()
    state = context.sync
    project = context.client.project(context.project_id)
    context.project = project
    try:
        context.interface = parse_label_config(project.label_config)
    except UnsupportedLabelConfig as error:
        context.interface = None
        context.store.write(
            "sync.json", state.model_copy(update={"config_error": str(error), "watermark": None})
        )
        _remember_config(context, project.label_config)
        context.end_looking()
        return
    before = context.labels()
    digest = label_config_digest(project.label_config)
    # Another control or image key: what was read with the old config means nothing.
    known = state.watermark if digest == state.config_digest else None
    watermark = _read(context, context.interface, known)
    checked = state.ids_checked_s
    now = time.time()
    if (
        len(context.tasks()) != project.task_number
        or context.was_hinted("deleted")
        or now - checked >= context.settings.check_ids_s
    ):
        _compare_ids(context, context.interface)
        checked = now
    changed = context.labels() != before
    context.store.write(
        "sync.json",
        state.model_copy(
            update={
                "watermark": watermark,
                "ids_checked_s": checked,
                "labels_changed_s": now if changed else state.labels_changed_s,
                "classes": context.interface.labels,
                "config_digest": digest,
                "config_error": "",
            }
        ),
    )
    _remember_config(context, project.label_config)
    context.end_looking()


def _read(
    context: ProjectContext, interface: ImageChoices, watermark: datetime | None
) -> datetime | None:
    """Read tasks updated after the watermark; the newest time stamp seen is the next one."""
    after = None if watermark is None else watermark - _OVERLAP
    batch: list[MirroredTask] = []
    newest, seen = watermark, 0
    for record in context.client.tasks(context.project_id, updated_after=after):
        batch.append(_mirrored(record, interface))
        newest = record.updated_at if newest is None else max(newest, record.updated_at)
        seen += 1
        if len(batch) >= _WRITE_EVERY:
            context.mirror.upsert(batch)
            batch.clear()
            total = context.project.task_number if context.project else seen
            context.store.note("sync", seen, max(seen, total), "tasks")
    context.mirror.upsert(batch)
    if seen:
        context.forget_tasks()
    return newest


def _compare_ids(context: ProjectContext, interface: ImageChoices) -> None:
    """Forget tasks that are gone; read all again if Label Studio has some that we never saw."""
    there = context.client.task_ids(context.project_id)
    here = {int(i) for i in context.tasks().ids}
    gone = here - there
    if gone:
        logger.info("project %s: %s tasks were deleted", context.project_id, len(gone))
        context.mirror.remove(gone)
        context.forget_tasks()
    if there - here:
        _read(context, interface, None)


def _mirrored(record: TaskRecord, interface: ImageChoices) -> MirroredTask:
    uri = record.data.get(interface.data_key)
    result = vote(record.annotations, interface)
    return MirroredTask(
        id=record.id,
        uri=uri if isinstance(uri, str) else "",
        state=result.state,
        label=result.label,
        annotations=result.annotations,
    )


def _remember_config(context: ProjectContext, label_config: str) -> None:
    """Let the web process see whether a PROJECT_UPDATED changed the label config."""
    path = context.store.path("label_config.sha256")
    digest = config_sha256(label_config)
    if not path.exists() or path.read_text() != digest:
        write_atomically(path, digest)
