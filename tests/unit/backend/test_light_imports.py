"""What answers at once must not load what takes seconds, or hundreds of megabytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "plotly", "pandas", "sklearn", "lancedb")


@pytest.mark.parametrize("module", ["backend.app", "backend.cli", "backend.supervisor"])
def test_web_part_and_command_line_load_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(sys.modules.keys() & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_page_of_the_dashboard_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import sys
from backend.app import create_app
from backend.jobs import Jobs
from backend.projects import ProjectStores
from backend.settings import Settings
settings = Settings(data_dir={str(tmp_path)!r}, label_studio_url="http://label-studio.test")
ProjectStores(settings.data_dir, settings.label_studio_url).create(1, 5, "one")
client = create_app(settings, Jobs(settings)).test_client()
for path in ("/", "/project/1", "/project/1/now"):
    assert client.get(path, headers={{"Accept": "text/html"}}).status_code == 200, path
print(*(sys.modules.keys() & {set(HEAVY)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
