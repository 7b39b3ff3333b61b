"""The child processes of fine-tunes that this worker started, and how they ended.

A child ends itself when its worker is gone, so what is not in this table was started by nobody who
lives, or says by its lock that it does (`Finetune.alive`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from backend.finetunes import Finetune

#: Exit codes of the child that are no failure: the device was taken; the worker was gone, or the
#: project paused.
BUSY, LEFT = 75, 76
#: Memory that could not be had, and no room on the disk, where even saying so was impossible.
NO_MEMORY, NO_ROOM = 77, 78

_SAID = {
    NO_MEMORY: "there was not enough memory",
    NO_ROOM: "the disk is full",
    -signal.SIGTERM: "it was ended (SIGTERM)",
    -signal.SIGKILL: "it was killed (SIGKILL: by hand, or because memory ran out)",
    -signal.SIGABRT: "it was aborted, as C++ code does for want of memory",
    -signal.SIGSEGV: "it crashed (SIGSEGV)",
}
_KILL_AFTER_S = 10.0

_children: dict[Path, subprocess.Popen[bytes]] = {}


def command(run_dir: Path) -> list[str]:
    """What is run; the child compares its parent with ours, who may die before it looks."""
    me = str(os.getpid())
    return [sys.executable, "-m", "backend.cli", "finetune-child", str(run_dir), "--parent", me]


def start(run: Finetune) -> None:
    """Start the child process of a run and do not wait for it.

    Raises: OSError: where there is no memory, no process or no room on the disk for it.
    """
    with (run.path / "log.txt").open("ab") as log:
        _children[run.path] = subprocess.Popen(
            command(run.path), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def is_running(run: Finetune) -> bool:
    """Whether the child process of a run lives, whoever started it."""
    child = _children.get(run.path)
    return (child is not None and child.poll() is None) or run.alive


def end_of(run: Finetune) -> str:
    """Why the child process ended before its time, in words; empty where that is no failure."""
    told = run.failure
    if told is not None:
        return told.reason
    child = _children.get(run.path)
    code = child.poll() if child is not None else None
    if code is None or code in {0, BUSY, LEFT}:
        return ""
    said = _SAID.get(code) or _last_line(run.path / "log.txt")
    return said or f"its process ended with code {code}"


def forget(run: Finetune) -> None:
    """How the last child process ended was noted."""
    child = _children.get(run.path)
    if child is not None and child.poll() is not None:
        del _children[run.path]
    (run.path / "failure.json").unlink(missing_ok=True)


def stop(run: Finetune) -> None:
    """End the child process of a run, if this worker started it; another's ends by itself."""
    child = _children.pop(run.path, None)
    if child is None:
        return
    child.terminate()
    try:
        child.wait(_KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip() if lines else ""
