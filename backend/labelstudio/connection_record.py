"""What connecting found, set and left alone; and how our connection is told from others."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from backend.labelstudio.records import Connection
from backend.labelstudio.tab import TAB_TITLE as TAB_TITLE
from backend.labelstudio.transport import origin_of

SAMPLING = "Uncertainty sampling"
#: What the names of every rarefirst begin with; ours go on with a mark of our own.
VERSION_PREFIX = "rarefirst-"
#: A connection's state while Label Studio reaches what it leads to.
CONNECTED = "CO"

_MARKED = re.compile(re.escape(VERSION_PREFIX) + r"[0-9a-f]{6}-")

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


def connections_to_us(
    connections: Iterable[Connection], own_url: str, *, own_prefix: str
) -> list[Connection]:
    """The connections that lead to us, the one that counts first.

    A connection is known by what our /setup answers through it, else by its address: Label Studio
    may know us under another address than we do (a container's, another interface), and what
    answers at the address that we take for ours may be another rarefirst. One through which we
    answer now counts more than a dead one; among equals the oldest counts, which is also the one
    that Label Studio asks.
    """
    found = [
        connection
        for connection in connections
        if connection.model_version.startswith(own_prefix)
        or (
            same_address(connection.url, own_url)
            and not (
                connection.state == CONNECTED
                and of_another_rarefirst(connection.model_version, own_prefix)
            )
        )
    ]
    return sorted(
        found, key=lambda connection: (not _answers(connection, own_prefix), connection.id)
    )


def find_connection(
    connections: Iterable[Connection], own_url: str, *, own_prefix: str
) -> Connection | None:
    """The connection to us that counts, see ``connections_to_us``; None where there is none."""
    found = connections_to_us(connections, own_url, own_prefix=own_prefix)
    return found[0] if found else None


def rarefirst_mark(version: str) -> str:
    """Which rarefirst a model version is of: ``rarefirst-3fa9c1-``; empty for anybody else's."""
    found = _MARKED.match(version)
    return found.group() if found else ""


def of_another_rarefirst(version: str, own_prefix: str) -> bool:
    """Whether a model version carries the mark of a rarefirst that is not this one."""
    return rarefirst_mark(version) != "" and not version.startswith(own_prefix)


def _answers(connection: Connection, own_prefix: str) -> bool:
    return connection.state == CONNECTED and connection.model_version.startswith(own_prefix)


def same_address(one: str, other: str) -> bool:
    """Whether two URLs are the same but for letter case of the host and a final slash."""
    return origin_of(one) == origin_of(other) and _path(one) == _path(other)


def _path(url: str) -> str:
    return urlsplit(url).path.rstrip("/")
