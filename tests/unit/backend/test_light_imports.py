"""What answers at once must not load what takes seconds, or hundreds of megabytes."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "plotly", "pandas", "sklearn", "lancedb")


@pytest.mark.parametrize("module", ["backend.app", "backend.cli", "backend.supervisor"])
def test_web_part_and_command_line_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(sys.modules.keys() & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
