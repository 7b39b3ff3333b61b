"""Real processes: restarted when they die, stopped in order, never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A small stand-in for `rarefirst serve`: same supervisor, children that only sleep.
SERVE = """
import json, sys
from pathlib import Path
from backend.files import write_atomically
from backend.supervisor import Supervisor
child = json.loads(sys.argv[2])
note = lambda pids: write_atomically(Path(sys.argv[1]), json.dumps(pids))
Supervisor({"web": child, "worker": child}, on_change=note, stop_s=2.0).run()
"""
SLEEPS = [sys.executable, "-c", "import time; time.sleep(300)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']); time.sleep(300)",
]


def runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


class Served:
    """A running supervisor and its notes."""

    def __init__(self, folder: Path, child: list[str]) -> None:
        self.path = folder / "serve.json"
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(self.path), json.dumps(child)],
            stderr=subprocess.DEVNULL,
        )
        self.seen: set[int] = set()
        assert wait_for(lambda: len(self.pids) == 3 and None not in self.pids.values())

    @property
    def pids(self) -> dict[str, int]:
        try:
            pids: dict[str, int] = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        self.seen |= {pid for pid in pids.values() if pid}
        return pids

    def clean_up(self) -> None:
        for pid in self.seen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


Serve = Callable[[list[str]], Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[Served] = []

    def start(child: list[str]) -> Served:
        started.append(Served(tmp_path, child))
        return started[-1]

    yield start
    for served in started:
        served.clean_up()


def test_a_child_that_dies_is_started_again(serve: Serve) -> None:
    served = serve(SLEEPS)
    before = served.pids
    os.kill(before["worker"], signal.SIGKILL)
    assert wait_for(lambda: served.pids["worker"] not in (None, before["worker"]))
    assert runs(served.pids["worker"])
    assert served.pids["web"] == before["web"]


def test_a_child_that_cannot_start_is_tried_ever_more_slowly(serve: Serve) -> None:
    served = serve([sys.executable, "-c", "import sys, time; time.sleep(0.2); sys.exit(3)"])
    changes: list[int] = []

    def three_starts() -> bool:
        pid = served.pids["web"]
        if pid and pid not in changes:
            changes.append(pid)
        return len(changes) >= 3

    began = time.monotonic()
    assert wait_for(three_starts)
    assert time.monotonic() - began > 1.0  # half a second, then a whole one
    assert served.process.poll() is None


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_everything(serve: Serve, signum: signal.Signals) -> None:
    served = serve(SLEEPS)
    pids = served.pids
    served.process.send_signal(signum)
    assert served.process.wait(60) == 0
    assert not any(runs(pid) for pid in pids.values())


def test_a_child_that_does_not_stop_is_killed_with_what_it_started(serve: Serve) -> None:
    served = serve(STUBBORN)

    def group(pid: int) -> set[int]:
        found = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if int(path.read_text().rsplit(")", 1)[1].split()[2]) == pid:
                    found.add(int(path.parent.name))
        return found

    pids = served.pids
    assert wait_for(lambda: len(group(pids["web"])) >= 2 and len(group(pids["worker"])) >= 2)
    members = group(pids["web"]) | group(pids["worker"])
    began = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    served.process.wait(15)
    assert time.monotonic() - began < 10
    assert wait_for(lambda: not any(runs(pid) for pid in members), 5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's help is Linux's")
def test_a_supervisor_that_is_killed_leaves_nothing_behind(serve: Serve) -> None:
    served = serve(SLEEPS)
    pids = served.pids
    served.process.kill()
    served.process.wait(10)
    assert wait_for(lambda: not any(runs(pid) for pid in pids.values()), 10)
