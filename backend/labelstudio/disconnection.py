"""Disconnecting a project: everything is put back, and what belongs to others stays."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from backend.errors import LabelStudioRefused, LabelStudioUnavailable, NotFound
from backend.labelstudio.client import Connection, LabelStudioClient, ProjectInfo, Webhook
from backend.labelstudio.connection_record import (
    SAMPLING,
    VERSION_PREFIX,
    ConnectionRecord,
    ConnectionReport,
    Step,
    StepState,
    connections_to_us,
    of_another_rarefirst,
)
from backend.labelstudio.deletion import delete_prediction
from backend.labelstudio.review_tab import REVIEW_TITLE, review_tabs
from backend.labelstudio.tab import TAB_TITLE
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

_SAY_EVERY = 100
_TRIES = 3
_AT_ONCE = 20


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
    begin: Callable[[], None] = lambda: None,
) -> ConnectionReport:
    """Put everything back: webhook, connection, sampling, model version, tab and our scores.

    What a person changed since is left as it is, and where another rarefirst stays connected so
    are the sampling and the tab that it needs too. The caller forgets the record afterwards.

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
        begin: called before the first change, not in a dry run: the caller keeps what a second call
            needs should this one be killed.
    """
    return _Disconnecting(
        client,
        project_id,
        record,
        own_url.rstrip("/"),
        dry_run,
        own_prefix,
        pause_s,
        progress,
        begin,
    ).run()


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
        begin: Callable[[], None],
    ) -> None:
        self.client = client
        self.project_id = project_id
        self.record = record
        self.own_url = own_url
        self.dry_run = dry_run
        self.own_prefix = own_prefix
        self.pause_s = pause_s
        self.progress = progress
        self.begin = begin
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def run(self) -> ConnectionReport:
        # The webhook and the connection go first, so that nothing below wakes the loop.
        project = self.client.project(self.project_id)
        connections = self.client.connections(self.project_id)
        ours = self._ours(connections)
        if not self.dry_run:
            self.begin()
        self._connections(ours)
        mine = {connection.id for connection in ours}
        staying = [
            c
            for c in connections
            if c.id not in mine and of_another_rarefirst(c.model_version, self.own_prefix)
        ]
        if staying:
            self.notes.append(
                f"another rarefirst stays connected at {staying[0].url}: the sampling and the tab "
                f"{TAB_TITLE!r}, which it needs too, are left as they are"
            )
        else:
            self._sampling(project)
        record = self.record
        titles = {connection.title for connection in ours} or {record.title if record else ""}
        self._model_version(project, titles - {""})
        if not staying:
            self._tab()
        self._scores()
        if not self.dry_run:
            self._delete_again(mine)
        return ConnectionReport(
            project_id=self.project_id,
            dry_run=self.dry_run,
            steps=tuple(self.steps),
            notes=tuple(self.notes),
        )

    def _ours(self, connections: Sequence[Connection]) -> list[Connection]:
        """Every connection to us: the one that connecting noted, and others that lead here."""
        found = connections_to_us(connections, self.own_url, own_prefix=self.own_prefix)
        noted = self.record.connection_id if self.record else 0
        found += [
            c
            for c in connections
            if c.id == noted
            and c not in found
            and not of_another_rarefirst(c.model_version, self.own_prefix)
        ]
        return found

    def _connections(self, ours: Sequence[Connection]) -> None:
        """Delete the connections and their webhooks."""
        bases = [c.url for c in ours] or [self.record.url if self.record else self.own_url]
        urls = dict.fromkeys(base.rstrip("/") + "/webhook" for base in bases)
        hooks = [hook for hook in self.client.webhooks(self.project_id) if hook.url in urls]
        if not self.dry_run:
            self._delete_rows(hooks, ours)
        self._step("webhook", ", ".join(urls) if hooks else "none", "none", changes=bool(hooks))
        before = ", ".join(connection.url for connection in ours)
        self._step("connection", before or "none", "none", changes=bool(ours))

    def _delete_rows(self, hooks: Sequence[Webhook], connections: Sequence[Connection]) -> None:
        for hook in hooks:
            self._delete(self.client.delete_webhook, hook.id)
        for connection in connections:
            self._delete(self.client.delete_connection, connection.id)

    def _delete_again(self, ids: Collection[int]) -> None:
        """Delete connections that came back.

        Label Studio writes each connection's state when somebody lists them: one that is deleted
        while a list is read is written anew, with its old id and its webhook.
        """
        for _ in range(_TRIES):
            back = [c for c in self.client.connections(self.project_id) if c.id in ids]
            if not back:
                return
            logger.info("project %s: %d connections came back", self.project_id, len(back))
            urls = {connection.url.rstrip("/") + "/webhook" for connection in back}
            hooks = [hook for hook in self.client.webhooks(self.project_id) if hook.url in urls]
            self._delete_rows(hooks, back)

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

    def _model_version(self, project: ProjectInfo, titles: Collection[str]) -> None:
        now = project.model_version
        ours = now.startswith(self.own_prefix) or now in titles
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
        there = self.client.views(self.project_id)
        views = [
            view
            for view in there
            if view.title == TAB_TITLE
            and (record is None or (record.view_created and record.view_id in (None, view.id)))
        ]
        checks = review_tabs(there)
        for view in (*views, *checks):
            if not self.dry_run:
                self._delete(self.client.delete_view, view.id)
        self._step("tab", TAB_TITLE if views else "none", "none", changes=bool(views))
        if checks:
            self._step("tab", REVIEW_TITLE, "none", changes=True)

    def _scores(self) -> None:
        """Delete what we published: nothing serves it, and nothing else would delete it."""
        versions = self.client.model_versions(self.project_id)
        ours = {name: count for name, count in versions.items() if name.startswith(self.own_prefix)}
        total, done, failed = sum(ours.values()), 0, 0
        for name in () if self.dry_run else ours:
            for prediction_id in self._predictions(name):
                try:
                    self._delete_score(prediction_id)
                except LabelStudioUnavailable as error:
                    failed += 1
                    logger.warning("project %s: a score stays: %s", self.project_id, error)
                    continue
                done += 1
                self.progress(min(done, total), total, "scores deleted")
                if done % _SAY_EVERY == 0:
                    logger.info("project %s: %d of %d scores deleted", self.project_id, done, total)
        before = f"{total} of {len(ours)} versions" if ours else "none"
        left = max(total - done, failed) if failed else 0
        if left:
            self.notes.append(
                f"{left} of {total} scores could not be deleted; nothing serves them, and "
                f"`rarefirst disconnect --project {self.project_id}` once more deletes them"
            )
        self._step("scores", before, f"{left} left" if left else "none", changes=bool(ours))

    def _predictions(self, name: str) -> Iterator[int]:
        """Ids of a version's predictions, a few at a time: reading all at once takes seconds."""
        seen: set[int] = set()
        while True:
            some = self.client.prediction_ids(self.project_id, name, at_most=_AT_ONCE)
            new = [number for number in some if number not in seen]
            if not new:
                return
            seen.update(new)
            yield from new

    def _delete_score(self, prediction_id: int) -> None:
        """Delete one and make room for others: a whole version is one long transaction."""
        began = time.monotonic()
        delete_prediction(self.client, prediction_id)
        time.sleep(max(self.pause_s, time.monotonic() - began))

    def _delete(self, delete: Callable[[int], None], row_id: int) -> None:
        """Delete something that another may have deleted just now."""
        with contextlib.suppress(NotFound):
            delete(row_id)

    def _step(self, what: str, before: str, after: str, changes: bool) -> None:
        state: StepState = "kept" if not changes else "would" if self.dry_run else "done"
        self.steps.append(Step(what=what, before=before, after=after, state=state))
