"""What a person changed since connecting: reported, and left alone."""

from __future__ import annotations

from collections.abc import Sequence

from backend.labelstudio.client import Connection, LabelStudioClient, ProjectInfo
from backend.labelstudio.connection_record import (
    CONNECTED,
    SAMPLING,
    VERSION_PREFIX,
    ConnectionRecord,
    connections_to_us,
    of_another_rarefirst,
    rarefirst_mark,
)
from backend.labelstudio.event_hook import trouble
from backend.labelstudio.tab import TAB_TITLE


def drift(
    client: LabelStudioClient,
    record: ConnectionRecord,
    *,
    project: ProjectInfo | None = None,
    connections: Sequence[Connection] | None = None,
    basic_auth: tuple[str, str] | None = None,
    own_prefix: str = VERSION_PREFIX,
) -> list[str]:
    """What is not as connecting left it, a sentence each.

    Args:
        client: Label Studio.
        record: what connecting kept.
        project: as just read, to save a request.
        connections: of the project, as just read, to save another.
        basic_auth: user and password that our endpoints ask for; None: they ask for none.
        own_prefix: what the model versions of this service begin with.
    """
    project = project or client.project(record.project_id)
    if connections is None:
        connections = client.connections(record.project_id)
    return project_drift(project) + connection_drift(
        client, record, connections=connections, basic_auth=basic_auth, own_prefix=own_prefix
    )


def connection_drift(
    client: LabelStudioClient,
    record: ConnectionRecord,
    *,
    connections: Sequence[Connection],
    basic_auth: tuple[str, str] | None,
    own_prefix: str,
) -> list[str]:
    """What the connection, its webhook, the tab and other connections show; see ``drift``."""
    found = _connection(record, connections)
    ours = connections_to_us(connections, record.url, own_prefix=own_prefix)
    if len(ours) > 1:
        found.append(several(ours))
    mine = {record.connection_id, *(connection.id for connection in ours)}
    found += another_rarefirst([c for c in connections if c.id not in mine], own_prefix)
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


def project_drift(project: ProjectInfo) -> list[str]:
    """What the project's own settings show; costs no request."""
    if project.sampling == SAMPLING:
        return []
    return [
        f"sampling is {project.sampling!r}; the rarest come first only with {SAMPLING!r}, which "
        "the settings page of the community edition does not offer: "
        f"`rarefirst connect --project {project.id}`"
    ]


def several(ours: Sequence[Connection]) -> str:
    """Several connections lead to us.

    Args:
        ours: two or more, the one that counts first.
    """
    others = ", ".join(f"{c.id} ({c.url})" for c in ours[1:])
    return (
        f"{len(ours)} connections lead here: {ours[0].id} ({ours[0].url}) counts, {others} can be "
        "deleted in the project's settings; until then events may come twice, which does no harm"
    )


def another_rarefirst(strangers: Sequence[Connection], own_prefix: str) -> list[str]:
    """Another rarefirst is connected to the same project."""
    return [
        f"another rarefirst ({rarefirst_mark(c.model_version).rstrip('-')}) is connected at "
        f"{c.url}: one of the two orders the queue, the one whose model version the project uses"
        for c in strangers
        if of_another_rarefirst(c.model_version, own_prefix)
    ]


def _connection(record: ConnectionRecord, connections: Sequence[Connection]) -> list[str]:
    connection = next((c for c in connections if c.id == record.connection_id), None)
    if connection is None:
        return ["the connection was deleted in Label Studio"]
    found = []
    if connection.url.rstrip("/") != record.url.rstrip("/"):
        found.append(f"the connection's address was changed to {connection.url}")
    if connection.state != CONNECTED:
        found.append("Label Studio shows the connection as not connected")
    return found
