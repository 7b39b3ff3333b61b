from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from backend import heartbeat
from backend.cli import app
from backend.healthy import health_of
from backend.settings import Settings
from demo.ports import free_port


@contextmanager
def web(status: int) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_web_is_well_when_it_answers(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy that the environment names has no business here.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with web(200) as port:
        for host in ("0.0.0.0", "127.0.0.1"):
            found = settings.model_copy(update={"host": host, "port": port})
            assert health_of(found, ["web"]).wrong == []


def test_web_is_not_well_when_it_fails_or_is_silent(settings: Settings) -> None:
    with web(500) as port:
        (said,) = health_of(settings.model_copy(update={"port": port}), ["web"]).wrong
        assert "answers 500, expected 200" in said
    (said,) = health_of(settings.model_copy(update={"port": free_port()}), ["web"]).wrong
    assert "does not answer" in said


def test_the_worker_is_well_while_its_heart_beats(settings: Settings) -> None:
    (said,) = health_of(settings, ["worker"]).wrong
    assert "does not run" in said
    settings.data_dir.mkdir(parents=True)
    heartbeat.begin(settings.data_dir, 1)
    assert health_of(settings, ["worker"]).wrong == []
    old = time.time() - heartbeat.STALE_S - 5
    os.utime(settings.data_dir / "worker.heartbeat", (old, old))
    (said,) = health_of(settings, ["worker"]).wrong
    assert "last sign of life" in said


def test_the_command_ends_with_1_and_says_what_is_wrong(
    clean_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAREFIRST_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PORT", str(free_port()))
    run = CliRunner().invoke(app, ["healthy"])
    assert run.exit_code == 1
    assert "web: " in run.stderr
    assert "worker: " in run.stderr
    heartbeat.begin(tmp_path, 1)
    assert CliRunner().invoke(app, ["healthy", "worker"]).exit_code == 0
    assert CliRunner().invoke(app, ["healthy", "cellar"]).exit_code == 2
