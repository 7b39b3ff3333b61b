"""Processes that belong together: started, watched, restarted, stopped, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_AFTER_S = 30.0
_PR_SET_PDEATHSIG = 1


def _end_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program: the kernel then ends it when its parent dies.

    Linux only; elsewhere a supervisor that is killed with -9 leaves its children running.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def set_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return set_signal


@dataclass
class Child:
    """One supervised process, in a process group of its own."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    next_start_at: float = 0.0
    _set_signal: Callable[[], None] | None = field(default_factory=_end_with_parent)

    @property
    def pid(self) -> int | None:
        """The process id, None while it is not running."""
        return self.process.pid if self.process is not None else None

    def start(self) -> None:
        """Start it. A terminal's Ctrl-C reaches the supervisor only, which stops it in order."""
        self.process = subprocess.Popen(
            self.command, start_new_session=True, preexec_fn=self._set_signal
        )
        self.started_at = time.monotonic()
        logger.info("%s started, pid %d", self.name, self.process.pid)

    def poll(self) -> bool:
        """Note whether it ended; returns True in that case, and says when to start it again."""
        if self.process is None or self.process.poll() is None:
            return False
        now = time.monotonic()
        if now - self.started_at >= _HEALTHY_AFTER_S:
            self.failures = 0
        pause = min(_FIRST_PAUSE_S * 2**self.failures, _LONGEST_PAUSE_S)
        logger.error(
            "%s ended with status %s; it starts again in %.1f s",
            self.name,
            self.process.returncode,
            pause,
        )
        self.kill_group()
        self.failures += 1
        self.next_start_at = now + pause
        self.process = None
        return True

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill_group(self) -> None:
        """End it and whatever it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Supervisor:
    """Keeps children running until told to stop.

    Args:
        commands: name -> command line.
        on_change: told the ids of supervisor and children after each start and end.
        stop_s: seconds that children get to stop by themselves.
    """

    def __init__(
        self,
        commands: Mapping[str, Sequence[str]],
        *,
        on_change: Callable[[Mapping[str, int | None]], None],
        stop_s: float = 9.0,
    ) -> None:
        self._children = [Child(name, command) for name, command in commands.items()]
        self._on_change = on_change
        self._stop_s = stop_s
        self._stop = threading.Event()

    def request_stop(self) -> None:
        """Stop soon; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Start the children and watch them until stopped."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Under nohup a hang-up is ignored, and stays so.
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, lambda *_: self._stop.set())
        try:
            for child in self._children:
                child.start()
            self._tell()
            while not self._stop.wait(0.1):
                self._watch()
        finally:
            self._end()

    def _watch(self) -> None:
        changed = False
        for child in self._children:
            changed = child.poll() or changed
            if child.process is None and time.monotonic() >= child.next_start_at:
                child.start()
                changed = True
        if changed:
            self._tell()

    def _end(self) -> None:
        for child in self._children:
            child.terminate()
        deadline = time.monotonic() + self._stop_s
        for child in self._children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop in %.0f s and is killed", child.name, self._stop_s)
            child.kill_group()
        logger.info("stopped")

    def _tell(self) -> None:
        pids = {"serve": os.getpid(), **{child.name: child.pid for child in self._children}}
        self._on_change(pids)
