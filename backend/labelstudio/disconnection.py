"""Disconnecting a project, and what a person changed since it was connected."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable

from backend.errors import LabelStudioRefused, NotFound
from backend.labelstudio.client import LabelStudioClient, ProjectInfo
from backend.labelstudio.connection_record import (
    SAMPLING,
    TAB_TITLE,
    VERSION_PREFIX,
    ConnectionRecord,
    ConnectionReport,
    Step,
    StepState,
    find_connection,
)
from backend.labelstudio.event_hook import trouble
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

_SAY_EVERY = 100


def disconnect(
    client: LabelStudioClient,
    project_id: int,
    record: ConnectionRecord | None,
    *,
    own_url: str,
    dry_run: bool = False,
    own_prefix: str = VERSION_PREFIX,
    pause_s: float = 0.0,
    progress: Progress = no_progress,
) -> ConnectionReport:
    """Put everything back: webhook, connection, sampling, model version, tab and our scores.

    What a person changed since is left as it is. The caller forgets the record afterwards.

    Args:
        client: Label Studio.
        project_id: which project.
        record: what connecting kept. Without it the connection is found by its address, and what
            nobody remembers (the sampling before us) is left and said so.
        own_url: our address as Label Studio reaches it.
        dry_run: only look, and say what would be done.
        own_prefix: what the model versions of this service begin with.
        pause_s: seconds between two deleted scores, at least as long as a deletion takes: Label
            Studio lets annotators submit meanwhile. 2,000 scores take a quarter of an hour;
            everything else is put back before, and a second call deletes what is left.
        progress: told after each deleted score.
    """
    return _Disconnecting(
        client, project_id, record, own_url.rstrip("/"), dry_run, own_prefix, pause_s, progress
    ).run()


def drift(
    client: LabelStudioClient,
    record: ConnectionRecord,
    *,
    project: ProjectInfo | None = None,
    basic_auth: tuple[str, str] | None = None,
) -> list[str]:
    """What a person changed since connecting: reported, and left alone.

    Args:
        client: Label Studio.
        record: what connecting kept.
        project: as just read, to save a request.
        basic_auth: user and password that our endpoints ask for; None: they ask for none.
    """
    project = project or client.project(record.project_id)
    found: list[str] = []
    if project.sampling != SAMPLING:
        found.append(
            f"sampling is {project.sampling!r}; the rarest come first only with {SAMPLING!r}"
        )
    connections = {c.id: c for c in client.connections(record.project_id)}
    connection = connections.get(record.connection_id)
    if connection is None:
        found.append("the connection was deleted in Label Studio")
    else:
        if connection.title != record.title:
            found.append(f"the connection was renamed to {connection.title!r}")
        if connection.url.rstrip("/") != record.url.rstrip("/"):
            found.append(f"the connection's address was changed to {connection.url}")
        if connection.state != "CO":
            found.append("Label Studio shows the connection as not connected")
    webhooks = {hook.id: hook for hook in client.webhooks(record.project_id)}
    webhook = None if record.webhook_id is None else webhooks.get(record.webhook_id)
    if webhook is None:
        found.append("there is no webhook: new labels are seen by the timer only")
    else:
        found += trouble(webhook, basic_auth)
    if record.view_id is not None and all(
        view.id != record.view_id for view in client.views(record.project_id)
    ):
        found.append(f"the tab {TAB_TITLE!r} was deleted")
    return found


class _Disconnecting:
    """The steps of one disconnect."""

    def __init__(
        self,
        client: LabelStudioClient,
        project_id: int,
        record: ConnectionRecord | None,
        own_url: str,
        dry_run: bool,
        own_prefix: str,
        pause_s: float,
        progress: Progress,
    ) -> None:
        self.client = client
        self.project_id = project_id
        self.record = record
        self.own_url = own_url
        self.dry_run = dry_run
        self.own_prefix = own_prefix
        self.pause_s = pause_s
        self.progress = progress
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def run(self) -> ConnectionReport:
        # The webhook and the connection go first, so that nothing below wakes the loop.
        project = self.client.project(self.project_id)
        title = self._connection()
        self._sampling(project)
        self._model_version(project, title)
        self._tab()
        self._scores()
        return ConnectionReport(
            project_id=self.project_id,
            dry_run=self.dry_run,
            steps=tuple(self.steps),
            notes=tuple(self.notes),
        )

    def _connection(self) -> str:
        """Delete webhook and connection; returns the connection's title."""
        record = self.record
        connections = self.client.connections(self.project_id)
        ours = next((c for c in connections if record and c.id == record.connection_id), None)
        ours = ours or find_connection(connections, self.own_url, own_prefix=self.own_prefix)
        base = ours.url if ours else (record.url if record else self.own_url)
        url = base.rstrip("/") + "/webhook"
        hooks = [hook for hook in self.client.webhooks(self.project_id) if hook.url == url]
        for hook in hooks:
            if not self.dry_run:
                self._delete(self.client.delete_webhook, hook.id)
        self._step("webhook", url if hooks else "none", "none", changes=bool(hooks))
        if ours is not None and not self.dry_run:
            self._delete(self.client.delete_connection, ours.id)
        self._step("connection", ours.url if ours else "none", "none", changes=ours is not None)
        return ours.title if ours else (record.title if record else "")

    def _sampling(self, project: ProjectInfo) -> None:
        record = self.record
        if record is None and project.sampling == SAMPLING:
            self.notes.append(
                f"what the sampling was before connecting is not known; it stays {SAMPLING!r}"
            )
        before = record.sampling_before if record else project.sampling
        changes = project.sampling == SAMPLING and before != SAMPLING
        if changes and not self.dry_run:
            self.client.update_project(self.project_id, sampling=before)
        self._step("sampling", project.sampling, before if changes else project.sampling, changes)

    def _model_version(self, project: ProjectInfo, title: str) -> None:
        now = project.model_version
        ours = now.startswith(self.own_prefix) or (bool(title) and now == title)
        before = self.record.model_version_before if self.record else ""
        if ours and not self.dry_run:
            try:
                self.client.update_project(self.project_id, model_version=before)
            except LabelStudioRefused:
                # Its predictions are gone meanwhile; nobody's scores are better than ours alone.
                self.notes.append(f"the model version {before!r} no longer exists")
                before = ""
                self.client.update_project(self.project_id, model_version=before)
        self._step("model version", now, before if ours else now, changes=ours)

    def _tab(self) -> None:
        record = self.record
        views = [
            view
            for view in self.client.views(self.project_id)
            if view.title == TAB_TITLE
            and (record is None or (record.view_created and record.view_id in (None, view.id)))
        ]
        for view in views:
            if not self.dry_run:
                self._delete(self.client.delete_view, view.id)
        self._step("tab", TAB_TITLE if views else "none", "none", changes=bool(views))

    def _scores(self) -> None:
        """Delete what we published: nothing serves it, and nothing else would delete it."""
        versions = self.client.model_versions(self.project_id)
        ours = {name: count for name, count in versions.items() if name.startswith(self.own_prefix)}
        total, done = sum(ours.values()), 0
        for name in () if self.dry_run else ours:
            for prediction_id in self.client.prediction_ids(self.project_id, name):
                self._delete_score(prediction_id)
                done += 1
                self.progress(min(done, total), total, "scores deleted")
                if done % _SAY_EVERY == 0:
                    logger.info("project %s: %d of %d scores deleted", self.project_id, done, total)
        before = f"{total} of {len(ours)} versions" if ours else "none"
        self._step("scores", before, "none", changes=bool(ours))

    def _delete_score(self, prediction_id: int) -> None:
        """Delete one and make room for others: a whole version is one long transaction."""
        began = time.monotonic()
        self._delete(self.client.delete_prediction, prediction_id)
        time.sleep(max(self.pause_s, time.monotonic() - began))

    def _delete(self, delete: Callable[[int], None], row_id: int) -> None:
        """Delete something that another may have deleted just now."""
        with contextlib.suppress(NotFound):
            delete(row_id)

    def _step(self, what: str, before: str, after: str, changes: bool) -> None:
        state: StepState = "kept" if not changes else "would" if self.dry_run else "done"
        self.steps.append(Step(what=what, before=before, after=after, state=state))
