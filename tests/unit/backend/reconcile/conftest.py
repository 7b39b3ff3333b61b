"""Commands as they are typed, on the project of the test's data directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from backend.cli import app
from tests.unit.backend.reconcile.rounds import Say


@pytest.fixture
def say(tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://label-studio.test")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "not-a-token")
    monkeypatch.setenv("RAREFIRST_TOP_K", "20")
    monkeypatch.setenv("COLUMNS", "240")
    runner = CliRunner()

    def invoke(*words: str, fails: bool = False) -> Result:
        result = runner.invoke(app, [*words, "--project", "1"])
        assert result.exit_code == (1 if fails else 0), result.output
        return result

    return invoke
