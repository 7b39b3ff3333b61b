"""The child process of Bootstrap never outlives the worker that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backend.reconcile import bootstrap_child
from backend.reconcile.actions import bootstrap


def test_a_child_whose_worker_died_before_it_looked_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    codes: list[int] = []
    monkeypatch.setattr(bootstrap_child.os, "_exit", codes.append)
    bootstrap_child.end_with_parent(gone.pid)  # returns at once, for it exits
    assert codes == [1]


def test_the_child_is_told_who_started_it(tmp_path: Path) -> None:
    assert bootstrap.command(tmp_path)[-2:] == ["--parent", str(os.getpid())]
