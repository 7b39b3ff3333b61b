"""What holds of every command: JSON for machines, exit codes as the README has them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from backend.cli import app
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.unit.backend.dashboard.kept import Kept

README = Path(__file__).resolve().parents[3] / "README.md"
#: They run until they are stopped, and show nothing.
LASTING = {"serve", "web", "worker"}
ONE = ("--project", "1")
#: How each command is called here, and how it ends: nothing answers, and no version has a miner.
CALLS: dict[str, tuple[tuple[str, ...], int]] = {
    "status": ((), 0),
    "healthy": (("worker",), 1),
    "queue": (ONE, 0),
    "history": (ONE, 0),
    "pause": (ONE, 0),
    "resume": (ONE, 0),
    "versions list": (ONE, 0),
    "versions show": (("v0001", *ONE), 0),
    "versions compare": (("v0001", "v0001", *ONE), 0),
    "versions follow": (ONE, 0),
    "versions activate": (("v0001", *ONE), 1),
    "versions delete": (("v0001", *ONE), 1),
    "review": (ONE, 0),
    "evaluate": (ONE, 0),
    "finetune": ((*ONE, "--dry-run"), 0),
    "backtest": (ONE, 1),
    "score": ((str(README), *ONE), 1),
    "simulate": ((str(README),), 1),
    "connect": ((*ONE, "--dry-run"), 1),
    "disconnect": ((*ONE, "--dry-run"), 1),
    "doctor": (ONE, 2),
}


@pytest.fixture
def project(
    settings: Settings,
    store: ProjectStore,
    clean_environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Kept:
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("LABEL_STUDIO_URL", settings.label_studio_url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "not-a-token")
    monkeypatch.setenv("COLUMNS", "200")
    return Kept(settings, store).fill()


def commands(group: Any = None, before: str = "") -> dict[str, Any]:
    """Every command that `--help` shows, by all its words; typer brings a click of its own."""
    found: dict[str, Any] = {}
    for name, one in (group or typer.main.get_command(app)).commands.items():
        if hasattr(one, "commands"):
            found |= commands(one, f"{before}{name} ")
        elif not one.hidden:
            found[before + name] = one
    return found


def test_every_command_is_called_here() -> None:
    assert commands().keys() == CALLS.keys() | LASTING, "say here how a new command is called"


@pytest.mark.parametrize("name", sorted(CALLS))
def test_every_command_prints_json_and_ends_as_documented(name: str, project: Kept) -> None:
    options = {text for one in commands()[name].params for text in one.opts}
    assert "--json" in options, f"rarefirst {name} shows something: give it --json"
    words, code = CALLS[name]
    result = CliRunner().invoke(app, [*name.split(), *words, "--json"])
    assert result.exit_code == code, result.output
    if code == 1:
        assert (result.stdout.strip() == "") or json.loads(result.stdout)
        assert "rarefirst: " in result.stderr, "a sentence says why"
    else:
        assert json.loads(result.stdout)


def test_the_readme_names_every_command() -> None:
    text = README.read_text()
    missing = [name for name in commands() if f"`rarefirst {name.split()[0]}`" not in text]
    assert missing == []


def documented() -> dict[str, str]:
    """The README's table of exit codes."""
    table = README.read_text().split("<!-- exit codes -->")[1].split("<!-- /exit codes -->")[0]
    return dict(re.findall(r"^\| (\d+) \| (.+) \|$", table, re.MULTILINE))


#: For each documented code commands that end with it.
ENDS = {
    0: (("status",), ("queue", *ONE), ("--help",)),
    1: (("status", "--project", "99"), ("versions", "activate", "v0009", *ONE)),
    2: (
        ("status", "--no-such-option"),
        ("queue",),
        ("status", "--watch", "--json"),
        ("finetune",),
        ("doctor",),
    ),
    3: (),  # below: it needs a later version's data directory
    130: (),  # below: it needs a process
}


def test_every_documented_code_is_tried() -> None:
    assert {int(code) for code in documented()} == set(ENDS)


@pytest.mark.parametrize(
    ("code", "words"), [(code, words) for code, some in ENDS.items() for words in some]
)
def test_exit_codes(code: int, words: tuple[str, ...], project: Kept) -> None:
    assert CliRunner().invoke(app, list(words)).exit_code == code


def test_a_wrong_setting_is_2(project: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAREFIRST_TOP_K", "many")
    assert CliRunner().invoke(app, ["status"]).exit_code == 2


def test_a_later_data_directory_is_3(project: Kept) -> None:
    (project.settings.data_dir / "format.json").write_text('{"format": 99}')
    done = CliRunner().invoke(app, ["status"])
    assert done.exit_code == 3
    assert "format 99" in done.stderr


def test_ctrl_c_is_130() -> None:
    """In a process of its own: a command that is at work when Ctrl-C comes."""
    code = """
import backend.status
from backend.cli import app
def stopped(*_): raise KeyboardInterrupt
backend.status.service_status = stopped
app(["status"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
