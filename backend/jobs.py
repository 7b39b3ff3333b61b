"""The job queue between web and worker: hints in, rounds out.

A queue message only says "look at this project soon". What happened is kept durably beside the
project (its hint files), and the worker's timer looks anyway: the queue may be lost, its messages
repeated or late, and nothing but time is lost. huey's own locks are not used, since a killed
process leaves them held.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
from pathlib import Path
from typing import Protocol

from huey import SqliteHuey

from backend.data_format import open_data
from backend.instance import unpublished_name
from backend.projects import Hint, ProjectStore, ProjectStores
from backend.serializer import JsonSerializer, queue_key
from backend.settings import Settings

logger = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9]+-[0-9a-f]{8}")
_HINTS: tuple[Hint, ...] = ("changed", "deleted", "settings", "force_fit")


class Handler(Protocol):
    """What the worker does with messages."""

    def reconcile(self, store_key: str) -> None:
        """Bring one project up to date once its hints calm down."""

    def register(self, project_id: int) -> None:
        """Take a project up, if Label Studio says that it is connected to us."""

    def discover(self) -> None:
        """Ask Label Studio which projects are connected to us."""


class Jobs:
    """The queue at ``DATA_DIR/queue.db``.

    Args:
        settings: the service's settings.
        handler: runs the messages; None in processes that only write them.
        immediate: run each message where it is written (for tests).

    Raises:
        DataFormatRefused: the data directory is a later version's.
    """

    def __init__(
        self, settings: Settings, *, handler: Handler | None = None, immediate: bool = False
    ) -> None:
        open_data(settings.data_dir, create=True)
        self.settings = settings
        self.unpublished = unpublished_name(settings.data_dir)
        self.stores = ProjectStores(settings.data_dir, settings.label_studio_url)
        self.handler = handler
        self._queued = settings.data_dir / "queued"
        # A marker this old belongs to a message that was lost: write another.
        self._stale_s = settings.debounce_max_s + 10.0
        self._queued.mkdir(parents=True, exist_ok=True)
        self.huey = SqliteHuey(
            "rarefirst",
            filename=str(_usable_queue(settings.data_dir / "queue.db")),
            results=False,
            immediate=immediate,
            fsync=False,
            serializer=JsonSerializer(queue_key(settings.data_dir)),
        )

        def reconcile(store_key: str) -> None:
            if self.handler is not None and _KEY.fullmatch(store_key):
                self.handler.reconcile(store_key)

        def register(project_id: int) -> None:
            self.started(f"register-{project_id}")
            if self.handler is not None:
                self.handler.register(project_id)

        def discover() -> None:
            self.started("discover")
            if self.handler is not None:
                self.handler.discover()

        self._reconcile = self.huey.task(name="reconcile")(reconcile)
        self._register = self.huey.task(name="register")(register)
        self._discover = self.huey.task(name="discover")(discover)

    # Writing ----------------------------------------------------------------------------------

    def hint(self, project_id: int, created_s: int | None, what: Hint) -> ProjectStore | None:
        """Say that something happened to a project; returns in milliseconds.

        A burst of hints makes one message: the marker of the message that waits already is
        removed when its round starts. A project that we do not know is asked after.

        Returns: the project's store, or None where it is not known yet.
        """
        store = self.store(project_id, created_s)
        if store is None:
            self.register(project_id)
            return None
        try:
            store.hint(what)
        except OSError as error:
            # Whoever tells us of something need not suffer for our disk.
            logger.error("hint %r of %s is lost: %s; the timer looks", what, store.root, error)
        if self._mark(store.key):
            self._write("reconcile", store.key)
        return store

    def look(self, store: ProjectStore) -> None:
        """Have the worker look at a project soon; one whose folder does not say which is left."""
        card = store.card
        if card is not None:
            self.hint(card.project_id, card.created_s, "changed")

    def register(self, project_id: int) -> None:
        """Ask the worker to take a project up."""
        if self._mark(f"register-{project_id}"):
            self._write("register", project_id)

    def discover(self) -> None:
        """Ask the worker to search Label Studio for projects connected to us."""
        if self._mark("discover"):
            self._write("discover")

    def store(self, project_id: int, created_s: int | None) -> ProjectStore | None:
        """The store of a project; with its creation time it is found without a search."""
        if created_s is None:
            return self.stores.find(project_id)
        store = ProjectStore(self.stores.root / self.stores.key(project_id, created_s))
        return store if store.path("project.json").is_file() else None

    def _write(self, name: str, *arguments: int | str) -> None:
        task = {
            "reconcile": self._reconcile,
            "register": self._register,
            "discover": self._discover,
        }[name]
        try:
            task(*arguments)
        except sqlite3.Error as error:
            # The hint file is on disk, and the timer reads it: late, not lost.
            logger.warning("queue %s refused %r: %s", self.huey.storage.filename, name, error)

    def _mark(self, name: str) -> bool:
        """Whether no message of this name waits already (the marker is set if so)."""
        path = self._queued / name
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            with contextlib.suppress(OSError):
                # Either way: one from the future was made before the clock jumped back.
                if abs(time.time() - path.stat().st_mtime) < self._stale_s:
                    return False
                path.touch()
        except OSError as error:
            # Without a marker there may be a message too many, which costs nothing.
            logger.debug("the marker %s cannot be left: %s", path, error)
        return True

    def waits(self, name: str) -> bool:
        """Whether a message of this name (a store's key, for example) waits."""
        return (self._queued / name).exists()

    # Reading, in the worker -------------------------------------------------------------------

    def started(self, name: str) -> None:
        """A waiting message is being dealt with: a later hint needs another one."""
        with contextlib.suppress(OSError):  # of a disk that may only be read
            (self._queued / name).unlink(missing_ok=True)

    def first_hint_at(self, store: ProjectStore) -> float | None:
        """When the oldest hint that still waits came, by the file system's clock."""
        try:
            return (self._queued / store.key).stat().st_mtime
        except FileNotFoundError:
            return None

    def newest_hint_at(self, store: ProjectStore) -> float | None:
        """When the newest hint came, or None where none waits."""
        times = [at for what in _HINTS if (at := store.hinted_at(what)) is not None]
        return max(times, default=None)

    def reset(self) -> None:
        """Forget all messages: a worker that starts looks at every project anyway."""
        try:
            self.huey.flush()
        except sqlite3.Error as error:
            logger.warning("queue %s cannot be emptied: %s", self.huey.storage.filename, error)
        for marker in self._queued.iterdir():
            self.started(marker.name)


def _usable_queue(path: Path) -> Path:
    """The path, after a file there that is no database was set aside."""
    if path.exists():
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=5)) as connection:
                connection.execute("pragma schema_version").fetchone()
        except sqlite3.OperationalError as error:
            logger.warning("queue %s is busy: %s", path, error)
        except sqlite3.DatabaseError as error:
            aside = path.with_name(f"{path.name}.unreadable-{time.time_ns()}")
            logger.error("queue %s cannot be read and is set aside: %s", path, error)
            with contextlib.suppress(FileNotFoundError):
                path.rename(aside)
            for suffix in ("-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    return path
