"""Which rounds run when, inside the worker: debounce, one at a time per project, none lost.

Messages and the timer may ask for the same project at the same time. A project has one thread
while it is busy, and whoever asks meanwhile only leaves word that there is more to see: nobody
waits here, so a project that takes hours keeps no thread from the others. Questions to Label
Studio about projects that are not ours yet have threads of their own, since they may hang.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from backend.errors import BackendError
from backend.files import disk_trouble, write_atomically
from backend.jobs import Jobs
from backend.newcomers import Newcomers
from backend.projects import ProjectStore
from backend.reports import SERVICE_REPORT, ServiceReport

logger = logging.getLogger(__name__)

_FAILED_PAUSE_S = 5.0
_ASKING_THREADS = 2
_SEARCH = "search"


def _say(what: str, error: BaseException) -> None:
    """Log a failure; of a disk that is full or read-only one line says everything."""
    trouble = disk_trouble(error)
    if trouble:
        logger.error("%s: %s", what, trouble)
    else:
        logger.error("%s", what, exc_info=error)


class Reconciles(Protocol):
    """The part of the reconcile loop that rounds need."""

    def discover(self) -> list[ProjectStore]:
        """Ask Label Studio which projects are connected to us."""

    def register(self, project_id: int) -> ProjectStore | None:
        """Take a project up, if Label Studio says that it is connected to us."""

    def round(self, store: ProjectStore, *, reason: str) -> bool:
        """Bring a project up to date; False where another process holds it."""


class Rounds:
    """Runs rounds; the ``Handler`` of the worker's messages. No method waits for a round.

    Args:
        jobs: where hints and their markers are.
        reconciler: does the work.
        stop: set when the worker ends.
        newcomers: when projects that are not known are looked up.
    """

    def __init__(
        self,
        jobs: Jobs,
        reconciler: Reconciles,
        *,
        stop: threading.Event,
        newcomers: Newcomers | None = None,
    ) -> None:
        self._jobs = jobs
        self._reconciler = reconciler
        self._stop = stop
        self._newcomers = newcomers or Newcomers()
        self._changed = threading.Condition()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._search_failed = False
        threads = jobs.settings.worker_threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="round")
        self._asking = ThreadPoolExecutor(_ASKING_THREADS, thread_name_prefix="ask")

    @property
    def idle(self) -> bool:
        """Whether nothing runs or waits for a thread."""
        with self._changed:
            return not self._busy

    @property
    def search_failed(self) -> bool:
        """Whether the last search for connected projects failed."""
        return self._search_failed

    def wait_until_idle(self, seconds: float) -> bool:
        """Wait until nothing runs; False where something still does."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy, seconds)

    def close(self) -> None:
        """Take nothing more up; what runs goes on, what waited for a thread is dropped."""
        for pool in (self._pool, self._asking):
            pool.shutdown(wait=False, cancel_futures=True)

    # Asked for by messages and the timer ------------------------------------------------------

    def reconcile(self, store_key: str) -> None:
        """A round after a hint, once the hints calmed down."""
        store = ProjectStore(self._jobs.stores.root / store_key)
        if not store.path("project.json").is_file():
            self._jobs.started(store_key)
            logger.warning("a message names the project folder %s, which is gone", store_key)
            return
        self._ask(store, reason="hint", debounce=True)

    def register(self, project_id: int) -> None:
        """Take a project up soon, and run its first round."""
        self._newcomers.ask(project_id)
        self.look_up()

    def look_up(self) -> None:
        """Look the projects up that were asked after and may be looked up now."""
        for project_id in self._newcomers.due():
            self._start(self._asking, f"look up {project_id}", partial(self._register, project_id))

    def discover(self) -> None:
        """Search Label Studio for projects soon; the timer runs their rounds."""
        self._start(self._asking, _SEARCH, self.search)

    def due(self, store: ProjectStore, *, reason: str) -> None:
        """A round that no hint asked for; nothing where one runs already."""
        self._ask(store, reason=reason, debounce=False, again=False)

    # In threads of their own ------------------------------------------------------------------

    def search(self) -> bool:
        """Search Label Studio for projects connected to us; False where that failed.

        Either way `status` learns how it went (``service.json``): with a token that is refused
        there may be no project to tell it of.
        """
        trouble = ""
        try:
            self._reconciler.discover()
        except BackendError as error:
            logger.warning("connected projects cannot be searched now: %s", error)
            trouble = str(error)
        except Exception as error:
            # The next search may succeed, and whoever asks for status must learn of this one.
            logger.exception("the search for connected projects failed")
            trouble = f"the search for connected projects failed: {error or type(error).__name__}"
        self._search_failed = bool(trouble)
        report = ServiceReport(
            at=datetime.now(UTC),
            label_studio_url=self._jobs.settings.label_studio_url,
            label_studio=trouble or "reachable",
        )
        write_atomically(
            self._jobs.settings.data_dir / SERVICE_REPORT, report.model_dump_json(indent=1)
        )
        return not trouble

    def _register(self, project_id: int) -> None:
        try:
            store = self._reconciler.register(project_id)
        except BackendError as error:
            # The next search finds it.
            logger.warning("project %d cannot be taken up now: %s", project_id, error)
            return
        if store is not None:
            self._newcomers.found(project_id)
            self._ask(store, reason="connected", debounce=False)

    def _ask(self, store: ProjectStore, *, reason: str, debounce: bool, again: bool = True) -> None:
        """Run a round of a project in a thread; leave word where it has one already."""
        key = store.key
        with self._changed:
            if key not in self._busy:
                self._start(
                    self._pool,
                    key,
                    lambda: self._run(store, reason=reason, debounce=debounce),
                    then=lambda: self._look_again(store),
                )
            elif again:
                # In this order, and under the lock: a hint that came before is seen by the round
                # that runs or by the one after it, and one that comes now writes a message.
                self._jobs.started(key)
                self._again.add(key)

    def _look_again(self, store: ProjectStore) -> None:
        """Another round, where somebody left word during the one that ended."""
        if store.key in self._again:
            self._again.discard(store.key)
            if not store.paused and self._jobs.newest_hint_at(store) is not None:
                self._ask(store, reason="hint", debounce=True)

    def _start(
        self,
        pool: ThreadPoolExecutor,
        name: str,
        work: Callable[[], object],
        *,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Do something in a thread, unless the same is done or waits for a thread already."""

        def ended(future: Future[object]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                _say(f"{name} failed", error)
            with self._changed:
                self._busy.discard(name)
                try:
                    then()
                finally:
                    self._changed.notify_all()

        with self._changed:
            if name in self._busy or self._stop.is_set():
                return
            try:
                future: Future[object] = pool.submit(work)
            except RuntimeError:  # closed: the worker ends
                return
            self._busy.add(name)
            future.add_done_callback(ended)

    def _run(self, store: ProjectStore, *, reason: str, debounce: bool) -> None:
        if debounce:
            self._wait_until_calm(store)
        if self._stop.is_set():
            return
        self._jobs.started(store.key)
        try:
            if not self._reconciler.round(store, reason=reason):
                logger.info("project %s is held by another process", store.key)
        except Exception as error:
            # One project's defect must not end the rounds of the others; the timer tries again.
            _say(f"the round of project {store.key} failed", error)
            self._stop.wait(_FAILED_PAUSE_S)

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
