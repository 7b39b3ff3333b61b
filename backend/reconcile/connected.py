"""What is kept of a connection, so that disconnecting can put back what was there before.

connecting.json   while the steps of connecting run: what was found, and what is done so far
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


def leave(store: ProjectStore) -> None:
    """Disconnected: what was learned stays, what is served is forgotten.

    Connecting the project again takes mirror, versions, tail and ledger up as they were left.
    """
    for name in ("project.json", "connection.json", "connecting.json"):
        store.path(name).unlink(missing_ok=True)
    store.forget_publications()


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
    for name in ("project.json", "connection.json"):
        store.path(name).unlink(missing_ok=True)
    store.forget_publications()


def park(store: ProjectStore) -> None:
    """Label Studio does not hold the project now: the folder stays as it is, and rests.

    A restored backup, or a token that may see the project again, brings it back; then it is
    found in the search and goes on from here.
    """
    store.path("project.json").unlink(missing_ok=True)
