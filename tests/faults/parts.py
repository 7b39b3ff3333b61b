"""Web and worker as two processes that something restarts when they end, as docker does."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from demo.backend_process import COMMAND, BackendSettings
from demo.service import Service

Part = Literal["web", "worker"]
PARTS: tuple[Part, ...] = ("web", "worker")
_RESTART_S = 0.3


class Parts:
    """The two processes, kept running by a thread.

    Args:
        settings: how they are run; their data directory tells our processes from others.
        run_dir: where logs go.

    Attributes:
        deaths: how often a part ended that nobody had killed.
    """

    def __init__(self, settings: BackendSettings, run_dir: Path) -> None:
        self.settings = settings
        environment = settings.environment()
        self.services: dict[Part, Service] = {
            name: Service(
                name, [str(COMMAND), name], env=environment, log_path=run_dir / f"{name}.log"
            )
            for name in PARTS
        }
        self.deaths = 0
        self._killed: set[int] = set()
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        """Start both, wait until the web part answers, and keep them running."""
        for service in self.services.values():
            service.start()
        self.services["web"].wait_until_up(self.settings.url + "/health", timeout_s=90)
        self._keeper.start()

    def stop(self) -> None:
        """End both in order."""
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join(30)
        for service in self.services.values():
            service.stop()

    def pid(self, part: Part) -> int:
        """The process id of a part, which may have ended just now."""
        return self.services[part].pid

    def kill(self, part: Part) -> int:
        """Kill -9 of the process alone, not of its children. Returns: the id it had."""
        pid = self.pid(part)
        self._killed.add(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return pid

    def log(self, part: Part) -> str:
        """All that a part logged."""
        return self.services[part].log_path.read_text(errors="replace")

    def children(self) -> list[int]:
        """Processes that work for the worker: a first training, a fine-tune."""
        worker = self.pid("worker")
        return [pid for pid in self.ours() if pid != worker and parent_of(pid) == worker]

    def ours(self) -> list[int]:
        """Every process that was started with our data directory."""
        mark = f"RAREFIRST_DATA_DIR={self.settings.data_dir}\0".encode()
        return [pid for pid in _processes() if mark in _environment(pid)]

    def orphans(self) -> list[str]:
        """Processes of ours that do not belong to a running part."""
        roots = {service.pid for service in self.services.values()}
        found = []
        for pid in self.ours():
            ancestor = pid
            while ancestor > 1 and ancestor not in roots:
                ancestor = parent_of(ancestor)
            if ancestor not in roots:
                found.append(f"{pid}: {_command(pid)}")
        return found

    def open_files(self) -> int:
        """Descriptors that the two parts and their children hold."""
        count = 0
        for pid in self.ours():
            with contextlib.suppress(OSError):
                count += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return count

    def memory_mb(self) -> float:
        """Resident memory of all of them, in MiB."""
        kilobytes = 0
        for pid in self.ours():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                    if line.startswith("VmRSS:"):
                        kilobytes += int(line.split()[1])
        return kilobytes / 1024

    def _keep(self) -> None:
        while not self._stop.wait(0.1):
            for service in self.services.values():
                if service.alive:
                    continue
                if service.pid not in self._killed:
                    self.deaths += 1
                time.sleep(_RESTART_S)
                if not self._stop.is_set():
                    service.start()


def parent_of(pid: int) -> int:
    """The parent of a process; 0 where it is gone or dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return int(fields[1])


def _processes() -> Iterator[int]:
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            yield int(path.name)


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()  # empty of a zombie
    except OSError:
        return b""


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return "gone"
