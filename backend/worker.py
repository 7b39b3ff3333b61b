"""The worker: one huey consumer for hints, and the timer, which is what is trusted."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from huey.consumer import Consumer

from backend import heartbeat
from backend.cores import usable_cores
from backend.jobs import Jobs
from backend.logs import configure_logging
from backend.projects import ProjectStore
from backend.rounds import Reconciles, Rounds
from backend.settings import Settings

logger = logging.getLogger(__name__)

_NICE = 10
_SAY_MISSING_S = 300.0
_STOP_S = 5.0
_SCHEDULER_S = 1


class Worker:
    """Runs rounds after hints and on the timer, until stopped.

    Args:
        settings: the service's settings.
        jobs: the queue.
        reconciler: does the work; None where settings are missing, then nothing is done.
    """

    def __init__(self, settings: Settings, jobs: Jobs, reconciler: Reconciles | None) -> None:
        self._settings = settings
        self._jobs = jobs
        self._stop = threading.Event()
        self._rounds = Rounds(jobs, reconciler, stop=self._stop) if reconciler is not None else None
        jobs.handler = self._rounds
        self._pool = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="timer")
        self._waiting: set[str] = set()

    def stop(self) -> None:
        """Stop soon."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped; rounds get a few seconds to end by themselves."""
        settings = self._settings
        self._jobs.reset()
        heartbeat.begin(settings.data_dir, os.getpid())
        consumer = Consumer(
            self._jobs.huey,
            workers=settings.worker_threads,
            periodic=False,
            initial_delay=0.05,
            max_delay=0.2,
            backoff=1.2,
            scheduler_interval=_SCHEDULER_S,
        )
        consumer.start()
        # After the consumer's own handlers: ours let rounds end first.
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, lambda *_: self._stop.set())
        timer = threading.Thread(target=self._timer, name="timer", daemon=True)
        timer.start()
        checked = time.monotonic()
        while not self._stop.wait(heartbeat.HEARTBEAT_S):
            heartbeat.beat(settings.data_dir, os.getpid())
            checked = consumer.loop(checked)
        logger.info("stopping")
        consumer.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._wait_until_idle()
        heartbeat.end(settings.data_dir)

    def _wait_until_idle(self) -> None:
        deadline = time.monotonic() + _STOP_S
        while self._rounds is not None and not self._rounds.idle:
            if time.monotonic() >= deadline:
                logger.warning("a round still runs; it is left as it is and finished next time")
                return
            time.sleep(0.05)

    # The timer --------------------------------------------------------------------------------

    def _timer(self) -> None:
        next_discover = next_say = time.monotonic()
        while not self._stop.is_set():
            now = time.monotonic()
            if self._rounds is None:
                if now >= next_say:
                    next_say = now + _SAY_MISSING_S
                    logger.warning(
                        "%s is not set: nothing is read or published",
                        " and ".join(self._settings.missing),
                    )
            else:
                if now >= next_discover:
                    found = self._rounds.search()
                    pause = self._settings.discover_s if found else self._settings.timer_s
                    next_discover = now + pause
                for store in self._jobs.stores.all():
                    if not store.paused and store.key not in self._waiting:
                        self._waiting.add(store.key)
                        self._pool.submit(self._due, self._rounds, store)
            self._stop.wait(self._settings.timer_s)

    def _due(self, rounds: Rounds, store: ProjectStore) -> None:
        try:
            rounds.due(store, reason="timer")
        finally:
            self._waiting.discard(store.key)


def main(settings: Settings | None = None) -> None:
    """Run a worker with the settings of the environment; ends the process."""
    settings = settings or Settings()
    configure_logging(settings, "worker")
    # The web part answers Label Studio within a second, however busy this process is.
    os.nice(_NICE)
    jobs = Jobs(settings)
    Worker(settings, jobs, _reconciler(settings, jobs)).run()
    # Threads in the middle of a round would keep the process alive; they are safe to cut off.
    logging.shutdown()
    os._exit(0)


def _reconciler(settings: Settings, jobs: Jobs) -> Reconciles | None:
    """The reconcile loop, or None where settings are missing."""
    if settings.missing:
        return None
    import torch

    from backend.labelstudio.client import LabelStudioClient
    from backend.reconcile.loop import Reconciler

    torch.set_num_threads(settings.torch_threads or usable_cores())
    client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key)
    return Reconciler(settings, client, jobs.stores)
