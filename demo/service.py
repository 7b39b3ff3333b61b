"""One server as a child process: its own process group, its own log, stopped without orphans."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import requests

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]


class ServiceError(RuntimeError):
    """A server ended or did not answer in time; the message holds the end of its log."""


class Service:
    """A server that is started, waited for and stopped.

    Args:
        name: for messages.
        command: program and arguments.
        env: its whole environment.
        log_path: file that takes its output; appended to.
        pid_path: file that names its process while it runs, so that the next run can stop what a
            killed run left behind.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        log_path: Path,
        pid_path: Path | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.log_path = log_path
        self.pid_path = pid_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, which is also the id of its group.

        Raises:
            ServiceError: it was not started.
        """
        if self._process is None:
            raise ServiceError(f"{self.name} was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own: Ctrl-C reaches us alone, and we end it in order."""
        self.stop_leftover()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if self.pid_path is not None:
            self.pid_path.write_text(str(self._process.pid))

    def wait_until_up(
        self, url: str, *, timeout_s: float, progress: Progress | None = None
    ) -> float:
        """Wait until ``url`` answers 200.

        Returns: seconds waited.

        Raises:
            ServiceError: it ended, or the time is over.
        """
        started = time.monotonic()
        told = started
        while True:
            try:
                if requests.get(url, timeout=5).status_code == 200:
                    return time.monotonic() - started
            except requests.RequestException:
                logger.debug("%s does not answer yet", url)
            now = time.monotonic()
            if not self.alive:
                raise ServiceError(f"{self.name} ended while starting.\n{self.log_tail()}")
            if now - started > timeout_s:
                raise ServiceError(
                    f"{self.name} did not answer at {url} within {timeout_s:.0f} s."
                    f"\n{self.log_tail()}"
                )
            if progress is not None and now - told >= 5:
                progress(f"waiting for {self.name}: {now - started:.0f} s")
                told = now
            time.sleep(0.2)

    def stop(self, *, grace_s: float = 20.0) -> None:
        """End it and all its children: politely first, by force after ``grace_s`` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(grace_s)
            except subprocess.TimeoutExpired:
                logger.warning("%s did not stop within %.0f s", self.name, grace_s)
        # Also after a clean end: what it may have left in its group must not outlive the demo.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        if self.pid_path is not None:
            self.pid_path.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill the whole group at once, as a crash of the machine would."""
        process, self._process = self._process, None
        if process is not None:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()

    def stop_leftover(self) -> None:
        """Stop what an earlier run left running, if it is still the same program."""
        if self.pid_path is None or not self.pid_path.exists():
            return
        text = self.pid_path.read_text().strip()
        if text.isdigit() and self.command[-1] in _command_line(int(text)):
            logger.info("stopping %s of an earlier run (process %s)", self.name, text)
            _signal_group(int(text), signal.SIGTERM)
            deadline = time.monotonic() + 15
            while _command_line(int(text)) and time.monotonic() < deadline:
                time.sleep(0.1)
            _signal_group(int(text), signal.SIGKILL)
        self.pid_path.unlink(missing_ok=True)

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log, with the path of the whole."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join([f"End of {self.log_path}:", *text.splitlines()[-lines:]])


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This environment without what would configure either server behind our back, plus ours."""
    prefixes = ("LABEL_STUDIO_", "HEARTEX_", "DJANGO_", "POSTGRE_", "RAREFIRST_", "BASIC_AUTH_")
    names = {"PORT", "HOST", "USERNAME", "PASSWORD", "USER_TOKEN", "DATABASE_NAME", "MODEL_DIR"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(prefixes) and name not in names
    }
    return {**kept, **extra}


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process group; nobody left in it is fine."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        logger.debug("group %d is gone", pid)


def _command_line(pid: int) -> list[str]:
    """The arguments of a running process; empty where there is none."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0") if part]
