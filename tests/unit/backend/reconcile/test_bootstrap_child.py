"""The child process of Bootstrap never outlives the worker that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_child_whose_worker_died_before_it_looked_ends(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-m", "backend.cli", "bootstrap", str(tmp_path)]
    # What would be read next never comes: without its parent it must not wait for it.
    os.mkfifo(tmp_path / "run.json")
    done = subprocess.run([*command, "--parent", str(gone.pid)], timeout=120, check=False)
    assert done.returncode == 1
