"""What is kept of a connection, so that disconnecting can put back what was there before.

connecting.json   while the steps of connecting or disconnecting run: what was found, what is done
connection.json   once they are through; the loop takes a project as completed by this file
"""

from __future__ import annotations

from backend.labelstudio.connection import ConnectionRecord
from backend.projects import ProjectStore


def known_before(store: ProjectStore) -> ConnectionRecord | None:
    """What an earlier, perhaps killed, connecting found."""
    return store.read("connection.json", ConnectionRecord) or store.read(
        "connecting.json", ConnectionRecord
    )


def remember(store: ProjectStore, record: ConnectionRecord) -> None:
    """Keep what was found before it is changed."""
    store.write("connecting.json", record)


def settle(store: ProjectStore, record: ConnectionRecord) -> None:
    """Connecting is through."""
    store.write("connection.json", record)
    store.path("connecting.json").unlink(missing_ok=True)


def begin_leaving(store: ProjectStore) -> None:
    """Disconnecting begins: the loop leaves the project, what was before us is still known.

    Deleting scores takes a quarter of an hour. Should it be killed, nothing takes the emptied model
    version for an accident, and a second disconnect finishes what this one began. Where not even
    the connection was deleted, the project is found again and goes on as one connected by hand.
    """
    record = known_before(store)
    if record is not None:
        remember(store, record.model_copy(update={"replaceable_model_version": None}))
    _let_go(store)


def leave(store: ProjectStore) -> None:
    """Disconnected: what was learned stays, what is served is forgotten.

    Connecting the project again takes mirror, versions, tail and ledger up as they were left.
    """
    _let_go(store)
    store.path("connecting.json").unlink(missing_ok=True)


def cut_off(store: ProjectStore) -> None:
    """A person deleted the connection: left like that, but what was before us is not forgotten.

    Nothing was put back in Label Studio, so sampling and tab there are still ours: a project that
    is connected again, and then disconnected, gets back what it had before the first time.
    """
    record = known_before(store)
    if record is not None:
        # As after a connecting that did not get as far as a connection.
        remember(
            store,
            record.model_copy(update={"connection_id": 0, "replaceable_model_version": None}),
        )
    _let_go(store)


def _let_go(store: ProjectStore) -> None:
    """Take away what makes the loop serve the project.

    The card goes last: killed in between, the folder is still a project's, and the next look says
    again that it is not connected. A connection.json without a card would count as completed.
    """
    store.path("connection.json").unlink(missing_ok=True)
    store.forget_publications()
    store.path("project.json").unlink(missing_ok=True)


def park(store: ProjectStore) -> None:
    """Label Studio does not hold the project now: the folder stays as it is, and rests.

    A restored backup, or a token that may see the project again, brings it back; then it is
    found in the search and goes on from here.
    """
    store.path("project.json").unlink(missing_ok=True)
