"""Now and then, a look at what a person may change about a project without any event.

Its connection, webhook and tab; other backends; and whether the published scores are still there.
What a person changed is reported and left alone. Two things go on by themselves: where several
connections lead to us and the one that counted is deleted, the next takes its place, and scores
that Label Studio lost are published again.
"""

from __future__ import annotations

import logging
import time

from backend.errors import NotConnected
from backend.labelstudio.client import Connection, LabelStudioClient
from backend.labelstudio.connection import connect
from backend.labelstudio.connection_record import ConnectionRecord, connections_to_us
from backend.labelstudio.drift import connection_drift
from backend.reconcile.actions.cleanup import find_forgotten
from backend.reconcile.connected import remember, settle
from backend.reconcile.context import ProjectContext
from backend.settings import Settings

logger = logging.getLogger(__name__)


class ConnectionWatch:
    """Looks at each project every ``discover_s``.

    Args:
        settings: the service's.
        client: Label Studio.
        own_prefix: what the model versions of this service begin with.
    """

    def __init__(self, settings: Settings, client: LabelStudioClient, own_prefix: str) -> None:
        self._settings = settings
        self._client = client
        self._own_prefix = own_prefix
        self._looked: dict[str, float] = {}

    def forget(self, key: str) -> None:
        """The loop leaves a project: should it come back, it is looked at at once."""
        self._looked.pop(key, None)

    def look(self, context: ProjectContext) -> None:
        """Look, if it is time to.

        Raises:
            NotConnected: no connection of the project leads to us any more.
            ProjectReplaced: its id is another project's now.
        """
        record = context.connection
        looked = self._looked.get(context.store.key)
        if record is None or (
            looked is not None and time.monotonic() - looked < self._settings.discover_s
        ):
            return
        self._looked[context.store.key] = time.monotonic()
        context.look_at_project()
        connections = self._client.connections(context.project_id)
        ours = connections_to_us(connections, self._settings.url, own_prefix=self._own_prefix)
        if not ours:
            raise NotConnected(
                f"the connection of project {context.project_id} was deleted in Label Studio"
            )
        record = self._up_to_date(context, record, ours)
        context.drift = connection_drift(
            self._client,
            record,
            connections=connections,
            basic_auth=self._settings.basic_auth,
            own_prefix=self._own_prefix,
        )
        self._scores(context)

    def _up_to_date(
        self, context: ProjectContext, record: ConnectionRecord, ours: list[Connection]
    ) -> ConnectionRecord:
        """What is kept of the connection, after a person renamed or deleted it."""
        counts = next((c for c in ours if c.id == record.connection_id), None)
        if counts is not None:
            if counts.title != record.title:
                # Label Studio goes by the title where the project's model version is one.
                record = record.model_copy(update={"title": counts.title})
                settle(context.store, record)
            return record
        logger.info(
            "project %s: connection %s was deleted, %s takes its place",
            context.project_id,
            record.connection_id,
            ours[0].id,
        )
        report = connect(
            self._client,
            context.project_id,
            own_url=self._settings.url,
            basic_auth=self._settings.basic_auth,
            succeed=True,
            move=bool(self._settings.own_url),
            own_prefix=self._own_prefix,
            record=record,
            remember=lambda known: remember(context.store, known),
        )
        if report.record is None:
            return record
        settle(context.store, report.record)
        context.connected_with(report.record, report.problems)
        return report.record

    def _scores(self, context: ProjectContext) -> None:
        """Notice scores that a person, or a restored backup, took out of Label Studio."""
        versions = self._client.model_versions(context.project_id)
        find_forgotten(context, versions)
        served = context.store.publications().published
        if served is None or versions.get(served.name, 0) >= len(served.task_ids):
            return
        left = set(served.task_ids) & self._client.task_ids(context.project_id)
        if versions.get(served.name, 0) < len(left):
            logger.warning(
                "project %s: Label Studio holds %s of %s scores of %s",
                context.project_id,
                versions.get(served.name, 0),
                len(left),
                served.name,
            )
            context.scores_gone = served.name
