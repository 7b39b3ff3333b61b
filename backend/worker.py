"""The worker: one huey consumer for hints, and the timer, which is what is trusted."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from huey.consumer import Consumer

from backend import heartbeat
from backend.cores import usable_cores, wait_without_spinning
from backend.heap import share_heaps
from backend.jobs import Jobs
from backend.leftovers import ABANDONED_S, sweep
from backend.logs import configure_logging
from backend.rounds import Reconciles, Rounds
from backend.settings import Settings

logger = logging.getLogger(__name__)

_NICE = 10
_SAY_MISSING_S = 300.0
# What a round may take to finish the action at hand; the supervisor waits for longer.
_STOP_S = 7.0
_SCHEDULER_S = 1
# Messages are only handed on to threads of the rounds: one reads, one is there should it die.
_READERS = 2
_TICK_S = 1.0


class Worker:
    """Runs rounds after hints and on the timer, until stopped.

    Args:
        settings: the service's settings.
        jobs: the queue.
        reconciler: does the work; None where settings are missing, then nothing is done.
        stop: set when the worker is to end; the reconciler may look at it.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: Jobs,
        reconciler: Reconciles | None,
        *,
        stop: threading.Event | None = None,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._stop = stop or threading.Event()
        self._mute = False  # the heartbeat cannot be written
        self._rounds = Rounds(jobs, reconciler, stop=self._stop) if reconciler is not None else None
        jobs.handler = self._rounds

    def stop(self) -> None:
        """Stop soon."""
        self._stop.set()

    def run(self) -> None:
        """Work until stopped; rounds get a few seconds to end by themselves."""
        settings = self._settings
        self._jobs.reset()
        self._beat(heartbeat.begin)
        consumer = Consumer(
            self._jobs.huey,
            workers=_READERS,
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
            self._beat(heartbeat.beat)
            checked = consumer.loop(checked)
        logger.info("stopping")
        consumer.stop()
        if self._rounds is not None:
            self._rounds.close()
            if not self._rounds.wait_until_idle(_STOP_S):
                logger.warning("a round still runs; it is left as it is and finished next time")
        with contextlib.suppress(OSError):  # of a disk that may only be read
            heartbeat.end(settings.data_dir)

    def _beat(self, how: Callable[[Path, int], None]) -> None:
        """Give a sign of life; one that cannot be written is said once, and ends nothing."""
        try:
            how(self._settings.data_dir, os.getpid())
        except OSError as error:
            if not self._mute:
                logger.error(
                    "%s cannot be written: %s; nothing can be kept, and `rarefirst status` says "
                    "that no worker lives, until it can",
                    self._settings.data_dir,
                    error.strerror,
                )
            self._mute = True
        else:
            self._mute = False

    # The timer --------------------------------------------------------------------------------

    def _timer(self) -> None:
        """Ask for what is due, again and again; nothing here waits for what it asked for."""
        settings, rounds = self._settings, self._rounds
        searched = looked = said = swept = float("-inf")
        while not self._stop.is_set():
            now = time.monotonic()
            try:
                if rounds is None:
                    if now - said >= _SAY_MISSING_S:
                        said = now
                        logger.warning(
                            "%s is not set: nothing is read or published",
                            " and ".join(settings.missing),
                        )
                else:
                    pause = settings.timer_s if rounds.search_failed else settings.discover_s
                    if now - searched >= pause:
                        searched = now
                        rounds.discover()
                    rounds.look_up()
                    if now - swept >= ABANDONED_S:
                        swept = now
                        sweep(settings.data_dir)
                    if now - looked >= settings.timer_s:
                        looked = now
                        self._ask_for_rounds(rounds)
            except Exception:
                # A full disk or a folder that cannot be read now: the heart would beat on while
                # nobody looks at any project, so the timer must live.
                logger.exception("the timer failed; it goes on")
            self._stop.wait(min(settings.timer_s, _TICK_S))

    def _ask_for_rounds(self, rounds: Rounds) -> None:
        for store in self._jobs.stores.all():
            if not store.paused:
                rounds.due(store, reason="timer")


def main(settings: Settings | None = None) -> None:
    """Run a worker with the settings of the environment; ends the process."""
    settings = settings or Settings()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: os._exit(0))  # nothing is at hand yet
    share_heaps()
    configure_logging(settings, "worker")
    # The web part answers Label Studio within a second, however busy this process is.
    os.nice(_NICE)
    jobs, stop = Jobs(settings), threading.Event()
    Worker(settings, jobs, _reconciler(settings, jobs, stop), stop=stop).run()
    # Threads in the middle of a round would keep the process alive; they are safe to cut off.
    logging.shutdown()
    os._exit(0)


def _reconciler(settings: Settings, jobs: Jobs, stop: threading.Event) -> Reconciles | None:
    """The reconcile loop, or None where settings are missing."""
    if settings.missing:
        return None
    wait_without_spinning()
    import torch

    from backend.labelstudio.client import LabelStudioClient
    from backend.reconcile.loop import Reconciler

    torch.set_num_threads(settings.torch_threads or usable_cores())
    client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key)
    return Reconciler(settings, client, jobs.stores, stopping=stop.is_set)
