"""Sync: the mirror holds every task of the project and its current label vote.

Reads what changed since the newest ``updated_at`` seen (by Label Studio's clock, with overlap,
since a transaction may commit later than its time stamp says). Deleted tasks simply vanish from
Label Studio's answers, so ids are compared whenever the number of tasks does not fit, something
was deleted, or the last comparison is long ago. A backup that was restored takes changes back
without a trace; then the newest change that was read is not there any more, and all is read again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from backend.errors import UnsupportedLabelConfig
from backend.files import write_atomically
from backend.labelstudio.client import TaskRecord
from backend.labelstudio.interface import (
    ImageBoxes,
    Interface,
    config_sha256,
    parse_label_config,
)
from backend.mirror import MirroredTask
from backend.reconcile import settings_look
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan
from backend.reconcile.reading_notes import READING_NOTES, ReadingNotes
from backend.reconcile.state import SyncState
from backend.reconcile.votes import Vote, vote

logger = logging.getLogger(__name__)

_OVERLAP = timedelta(seconds=15)
_LATE_S = 30.0  # no transaction commits that long after its time stamp
_SELF = timedelta(milliseconds=1)  # the newest change itself is always read: to see it is there
_WRITE_EVERY = 1000


@dataclass(frozen=True)
class _Newest:
    """The newest change that was read: when it was made, by Label Studio's clock, and to what."""

    at: datetime
    task: int


def run(context: ProjectContext, plan: Plan) -> None:
    """Read what changed in Label Studio into the mirror."""
    context.begin_looking()
    state = context.sync
    project = context.look_at_project()
    settings_look.look(context)
    try:
        context.interface = parse_label_config(project.label_config)
    except UnsupportedLabelConfig as error:
        context.interface = None
        context.store.write("sync.json", state.model_copy(update={"config_error": str(error)}))
        _remember_config(context, project.label_config)
        context.end_looking()
        return
    checked, now = state.ids_checked_s, time.time()
    # Either way: a clock that jumped back must not put it off for as long as it jumped.
    due = context.was_hinted("deleted") or abs(now - checked) >= context.settings.check_ids_s
    if due:
        context.look_at_mirror()  # before anything is written to it
    before, began = context.labels(), time.time()
    digest = reading_digest(context.interface)
    newest, all_read = _catch_up(context, context.interface, state, digest)
    now = time.time()
    if due or all_read or len(context.tasks()) != project.task_number:
        _compare_ids(context, context.interface)
        checked = now
    changed = context.labels() != before
    context.store.write(
        "sync.json",
        state.model_copy(
            update={
                "watermark": newest.at if newest else None,
                "newest_task": newest.task if newest else None,
                **_overlap(state, newest, began),
                "ids_checked_s": checked,
                "labels_changed_s": now if changed else state.labels_changed_s,
                "classes": context.interface.labels,
                "task": context.interface.task,
                "config_digest": digest,
                "config_error": "",
            }
        ),
    )
    _remember_config(context, project.label_config)
    context.end_looking()


def reading_digest(interface: Interface) -> str:
    """SHA-256 of what decides how a task is read: the image's key and the controls.

    Of a choice, classes are not in it: the mirror keeps every label as it was given, and those that
    the config does not hold come back into use when the config does. Of boxes they are: one whose
    class the config does not hold is kept without a class.
    """
    if isinstance(interface, ImageBoxes):
        read: list[object] = [
            interface.task,
            interface.labels_of_control,
            interface.beside,
            interface.data_key,
        ]
    else:
        read = [interface.control_name, interface.data_key]
    return hashlib.sha256(json.dumps(read).encode()).hexdigest()


def _overlap(state: SyncState, newest: _Newest | None, began_s: float) -> dict[str, object]:
    """Whether the next read must overlap this one.

    After a large import that nothing followed, each look would else read the whole import again.

    Args:
        state: before this read.
        newest: the newest change now.
        began_s: when this read began, Unix seconds.
    """
    if newest is None or newest.at != state.watermark:
        return {"newest_seen_s": began_s, "overlap_done": False}
    done = state.overlap_done or began_s - state.newest_seen_s >= _LATE_S
    return {"newest_seen_s": state.newest_seen_s, "overlap_done": done}


def _catch_up(
    context: ProjectContext, interface: Interface, state: SyncState, digest: str
) -> tuple[_Newest | None, bool]:
    """Read what is new, or everything; returns the newest change and whether it was everything."""
    known = (
        _Newest(state.watermark, state.newest_task)
        # Another control or image key: what was read with the old config means nothing.
        if digest == state.config_digest
        and state.watermark is not None
        and state.newest_task is not None
        else None
    )
    if known is not None:
        newest = _read(context, interface, known, _SELF if state.overlap_done else _OVERLAP)
        if newest is not None:
            return newest, False
        logger.warning(
            "project %s: the newest change that was read is not in Label Studio any more (a "
            "deleted task, or a restored backup): reading everything again",
            context.project_id,
        )
    return _read(context, interface, None), True


def _read(
    context: ProjectContext,
    interface: Interface,
    known: _Newest | None,
    overlap: timedelta = _OVERLAP,
) -> _Newest | None:
    """Read tasks that were updated after what is known, or all of them.

    Returns:
        The newest change there is. None where there is none, or where what was known is gone.
    """
    batch: list[MirroredTask] = []
    notes: dict[int, tuple[str, ...]] = {}
    newest, seen, found = known, 0, known is None
    after = None if known is None else known.at - overlap
    for record in context.client.tasks(context.project_id, updated_after=after):
        result = vote(record.annotations, interface)
        batch.append(_mirrored(record, interface, result))
        notes[record.id] = result.notes
        found = found or (known is not None and record.id == known.task)
        if newest is None or record.updated_at >= newest.at:
            newest = _Newest(record.updated_at, record.id)
        seen += 1
        if len(batch) >= _WRITE_EVERY:
            context.mirror.upsert(batch)
            batch.clear()
            context.leave_if_stopping()  # it begins again from what was known before
            total = context.project.task_number if context.project else seen
            context.store.note("sync", seen, max(seen, total), "tasks")
    context.mirror.upsert(batch)
    if seen:
        context.forget_tasks()
    before = _notes(context)
    _keep_notes(context, before, (ReadingNotes() if known is None else before).read(notes))
    return newest if found else None


def _notes(context: ProjectContext) -> ReadingNotes:
    return context.store.read(READING_NOTES, ReadingNotes) or ReadingNotes()


def _keep_notes(context: ProjectContext, before: ReadingNotes, now: ReadingNotes) -> None:
    if now != before:
        context.store.write(READING_NOTES, now)


def _compare_ids(context: ProjectContext, interface: Interface) -> None:
    """Forget tasks that are gone; read all again if Label Studio has some that we never saw."""
    there = context.client.task_ids(context.project_id)
    here = {int(i) for i in context.tasks().ids}
    gone = here - there
    if gone:
        logger.info("project %s: %s tasks were deleted", context.project_id, len(gone))
        context.mirror.remove(gone)
        context.forget_tasks()
        noted = _notes(context)
        _keep_notes(context, noted, noted.without(gone))
    if there - here:
        _read(context, interface, None)


def _mirrored(record: TaskRecord, interface: Interface, result: Vote) -> MirroredTask:
    uri = record.data.get(interface.data_key)
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
    if not path.exists() or path.read_bytes() != digest.encode():
        write_atomically(path, digest)
