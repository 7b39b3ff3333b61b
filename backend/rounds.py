"""Which rounds run when, inside the worker: debounce, one at a time per project, none lost.

Messages and the timer may ask for the same project at the same time, from several threads. One of
them runs the round; the others only leave word that there is more to see.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Protocol

from backend.errors import BackendError
from backend.jobs import Jobs
from backend.projects import ProjectStore

logger = logging.getLogger(__name__)

_FAILED_PAUSE_S = 5.0


class Reconciles(Protocol):
    """The part of the reconcile loop that rounds need."""

    def discover(self) -> list[ProjectStore]:
        """Ask Label Studio which projects are connected to us."""

    def register(self, project_id: int) -> ProjectStore | None:
        """Take a project up, if Label Studio says that it is connected to us."""

    def round(self, store: ProjectStore, *, reason: str) -> bool:
        """Bring a project up to date; False where another process holds it."""


class Rounds:
    """Runs rounds; the ``Handler`` of the worker's messages.

    Args:
        jobs: where hints and their markers are.
        reconciler: does the work.
        stop: set when the worker ends.
    """

    def __init__(self, jobs: Jobs, reconciler: Reconciles, *, stop: threading.Event) -> None:
        self._jobs = jobs
        self._reconciler = reconciler
        self._stop = stop
        self._lock = threading.Lock()
        self._busy: set[str] = set()
        self._again: set[str] = set()

    @property
    def idle(self) -> bool:
        """Whether no round runs."""
        with self._lock:
            return not self._busy

    def reconcile(self, store_key: str) -> None:
        """A round after a hint, once the hints calmed down."""
        store = ProjectStore(self._jobs.stores.root / store_key)
        if not store.path("project.json").is_file():
            self._jobs.started(store_key)
            logger.warning("a message names the project folder %s, which is gone", store_key)
            return
        self._run(store, reason="hint", debounce=True)

    def register(self, project_id: int) -> None:
        """Take a project up and run its first round."""
        try:
            store = self._reconciler.register(project_id)
        except BackendError as error:
            # The next search finds it.
            logger.warning("project %d cannot be taken up now: %s", project_id, error)
            return
        if store is not None:
            self._run(store, reason="connected", debounce=False)

    def discover(self) -> None:
        """Search Label Studio for projects; the timer runs their rounds."""
        self.search()

    def search(self) -> bool:
        """Search Label Studio for projects connected to us; False where that failed."""
        try:
            self._reconciler.discover()
        except BackendError as error:
            logger.warning("connected projects cannot be searched now: %s", error)
            return False
        except Exception:
            # The timer that asks must live; it asks again soon.
            logger.exception("the search for connected projects failed")
            return False
        return True

    def due(self, store: ProjectStore, *, reason: str) -> None:
        """A round that no hint asked for; nothing where one runs already."""
        self._run(store, reason=reason, debounce=False, again=False)

    def _run(self, store: ProjectStore, *, reason: str, debounce: bool, again: bool = True) -> None:
        with self._lock:
            if store.key in self._busy:
                if again:
                    self._again.add(store.key)
                return
            self._busy.add(store.key)
        try:
            while not self._stop.is_set():
                if debounce:
                    self._wait_until_calm(store)
                self._jobs.started(store.key)
                self._one(store, reason)
                with self._lock:
                    more = store.key in self._again and self._hinted(store)
                    self._again.discard(store.key)
                    if not more:
                        self._busy.discard(store.key)
                        return
                reason, debounce = "hint", True
        finally:
            with self._lock:
                self._busy.discard(store.key)

    def _one(self, store: ProjectStore, reason: str) -> None:
        try:
            if not self._reconciler.round(store, reason=reason):
                logger.info("project %s is held by another process", store.key)
        except Exception:
            # One project's defect must not end the rounds of the others; the timer tries again.
            logger.exception("the round of project %s failed", store.key)
            self._stop.wait(_FAILED_PAUSE_S)

    def _hinted(self, store: ProjectStore) -> bool:
        return not store.paused and self._jobs.newest_hint_at(store) is not None

    def _wait_until_calm(self, store: ProjectStore) -> None:
        """Wait until no hint came for ``debounce_s``, or the first waited ``debounce_max_s``."""
        settings = self._jobs.settings
        now = time.time()
        first = self._jobs.first_hint_at(store)
        deadline = min(now if first is None else first, now) + settings.debounce_max_s
        while not self._stop.is_set():
            newest = self._jobs.newest_hint_at(store)
            if newest is None:
                return
            wait = min(newest + settings.debounce_s, deadline) - time.time()
            if wait <= 0:
                return
            self._stop.wait(min(wait, settings.debounce_max_s))
