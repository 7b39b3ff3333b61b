from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend.cli import app
from backend.labelstudio.connection_record import ConnectionReport
from backend.reconcile.loop import Reconciler


@pytest.mark.parametrize("given", [True, False])
def test_take_over_reaches_the_reconciler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: bool
) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    asked: list[tuple[int, str | None, bool, bool]] = []

    def connect(
        self: Reconciler,
        project_id: int,
        *,
        own_url: str | None,
        dry_run: bool,
        take_over: bool = False,
        consent: bool = True,
    ) -> ConnectionReport:
        assert consent, "whoever connects wants the project served"
        asked.append((project_id, own_url, dry_run, take_over))
        return ConnectionReport(project_id=project_id, dry_run=dry_run)

    monkeypatch.setattr(Reconciler, "connect", connect)
    command = ["connect", "--project", "3", "--dry-run", *(["--take-over"] if given else [])]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert asked == [(3, None, True, given)]
