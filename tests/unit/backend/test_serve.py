"""`rarefirst serve` as a user runs it: both parts up, one port, one command to stop."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backend import heartbeat
from backend.serve import PortTaken, check_port, serve
from backend.settings import Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError, KeyError):
            if condition():
                return True
        time.sleep(0.1)
    return False


def runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


class Service:
    """A `rarefirst serve` of its own, without Label Studio."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir, self.port = data_dir, free_port()
        self.log = data_dir.with_suffix(".log")
        self.environment = {
            "PATH": os.environ["PATH"],
            "RAREFIRST_DATA_DIR": str(data_dir),
            "RAREFIRST_HOST": "127.0.0.1",
            "PORT": str(self.port),
            "HOME": str(data_dir.parent),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "backend.cli", "serve"],
                env=self.environment,
                stderr=log,
                stdout=log,
            )

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    @property
    def pids(self) -> dict[str, int]:
        pids: dict[str, int] = json.loads((self.data_dir / "serve.json").read_text())
        return pids

    def up(self) -> bool:
        alive = heartbeat.heartbeat_age_s(self.data_dir) is not None
        return "UP" in self.get("/health") and alive

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path / "data")
    assert wait_for(made.up), made.log.read_text()
    yield made
    made.clean_up()


def test_it_serves_without_settings_and_stops_cleanly(service: Service) -> None:
    pids = service.pids
    assert set(pids) == {"serve", "web", "worker"}
    assert "rarefirst_worker_heartbeat_age_seconds" in service.get("/metrics")
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(15) == 0
    assert time.monotonic() - began < 10
    assert not any(runs(pid) for pid in pids.values())
    log = service.log.read_text()
    assert "LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY is not set" in log
    assert "Traceback" not in log
    assert not list(service.data_dir.parent.glob(".gunicorn*"))  # nothing under HOME


def test_a_second_one_on_the_same_port_says_so(service: Service, tmp_path: Path) -> None:
    other = subprocess.run(
        [sys.executable, "-m", "backend.cli", "serve"],
        env={**service.environment, "RAREFIRST_DATA_DIR": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert other.returncode == 2
    assert f"port {service.port} is taken by another program" in other.stderr
    assert "Traceback" not in other.stderr


def test_killed_parts_come_back_and_a_killed_serve_leaves_nothing(service: Service) -> None:
    before = service.pids
    os.kill(before["web"], signal.SIGKILL)
    os.kill(before["worker"], signal.SIGKILL)
    changed = {"web", "worker"}
    assert wait_for(
        lambda: (
            all(service.pids[name] not in (None, before[name]) for name in changed) and service.up()
        )
    ), service.log.read_text()
    pids = service.pids
    service.process.kill()
    service.process.wait(10)
    assert wait_for(lambda: not any(runs(pid) for pid in pids.values()), 15)

    def refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", service.port)) != 0

    assert wait_for(refused, 15)


def test_who_cannot_write_down_the_processes_keeps_them_all_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    noted: list[bool] = []

    class Supervisor:
        def __init__(self, commands: object, *, on_change: Callable[[dict[str, int]], None]):
            self.on_change = on_change

        def run(self) -> None:
            self.on_change({"serve": 1})
            noted.append(True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("backend.serve.Supervisor", Supervisor)
    monkeypatch.setattr("backend.serve.write_atomically", full)
    serve(settings.model_copy(update={"port": free_port(), "host": "127.0.0.1"}))
    assert noted == [True]
    assert "serve.json cannot be written: No space left on device" in caplog.text


def test_a_port_that_gets_free_in_time_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"port {port} is taken .* PORT="):
            check_port("127.0.0.1", port, patience_s=0.3)
    check_port("127.0.0.1", port, patience_s=0.3)


def test_an_address_that_is_not_ours_is_named() -> None:
    with pytest.raises(PortTaken, match="set RAREFIRST_HOST and PORT"):
        check_port("192.0.2.1", 9090, patience_s=0)
