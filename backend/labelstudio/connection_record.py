"""What connecting found, set and left alone; and how our connection is told from others."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from backend.labelstudio.records import Connection
from backend.labelstudio.transport import origin_of

SAMPLING = "Uncertainty sampling"
TAB_TITLE = "Rarest first"
#: What the names of every rarefirst begin with; ours go on with a mark of our own.
VERSION_PREFIX = "rarefirst-"

StepState = Literal["done", "would", "kept", "missing"]


class ConnectionRecord(BaseModel):
    """What connecting changed, kept so that disconnecting can put it back. Holds no secrets.

    Attributes:
        connection_id: the row in Label Studio, 0 where it is gone.
        created: whether we made it, or a person did and we completed it.
        webhook_id: None where Label Studio has none and refuses to make one.
        view_id: the tab; None where there is none, or one was about to be made.
        view_created: whether we made it, or were about to.
        sampling_before: the project's sampling before us.
        model_version_before: whose scores the project used before us; empty: nobody's.
        replaceable_model_version: the model version that the next published queue may take the
            place of because the user said so: somebody else's (``--take-over``) or, by merely
            connecting, one of ours or none (empty). None where nobody said anything.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    project_id: int
    url: str
    connection_id: int
    created: bool
    title: str
    webhook_id: int | None
    view_id: int | None
    view_created: bool
    sampling_before: str
    model_version_before: str
    replaceable_model_version: str | None = None
    connected_at: datetime


class Step(BaseModel):
    """One thing that was looked at.

    Attributes:
        what: such as ``sampling``.
        before: what it was; after: what it is, or would be in a dry run.
        state: ``done``; ``would`` in a dry run; ``kept`` where nothing had to change;
            ``missing`` where it is needed and could not be had.
    """

    model_config = ConfigDict(frozen=True)

    what: str
    before: str
    after: str
    state: StepState


class ConnectionReport(BaseModel):
    """What connecting or disconnecting did, or would do.

    Attributes:
        steps: in the order in which they were done.
        notes: what is worth knowing but in order.
        problems: what must be mended by a person; the loop works without it, but worse.
        record: to be kept by the caller; None in a dry run, after disconnecting, and where no
            connection was found.
    """

    model_config = ConfigDict(frozen=True)

    project_id: int
    dry_run: bool
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    record: ConnectionRecord | None = None


def find_connection(
    connections: Iterable[Connection], own_url: str, *, own_prefix: str
) -> Connection | None:
    """The connection that leads to us: by its address, else by what our /setup answers.

    Label Studio may know us under another address than we do (a container's, another interface).
    """
    known = list(connections)
    for connection in known:
        if same_address(connection.url, own_url):
            return connection
    for connection in known:
        if connection.model_version.startswith(own_prefix):
            return connection
    return None


def same_address(one: str, other: str) -> bool:
    """Whether two URLs are the same but for letter case of the host and a final slash."""
    return origin_of(one) == origin_of(other) and _path(one) == _path(other)


def _path(url: str) -> str:
    return urlsplit(url).path.rstrip("/")
