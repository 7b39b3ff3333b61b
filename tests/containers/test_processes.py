"""Web and worker started as compose starts them: its commands, environment and secret files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from demo.ports import free_port
from demo.service import Service, clean_environment
from tests.containers.compose_file import Process, process_of, read_compose, secrets_of

PASSWORD = "not-a-secret"


class Containers:
    """Web and worker as processes, with one data folder."""

    def __init__(self, folder: Path) -> None:
        compose = read_compose()
        services = {name: compose["services"][name] for name in ("web", "worker")}
        secrets = folder / "secrets"
        secrets.mkdir()
        for name in services["web"]["secrets"]:
            (secrets / name).write_text(f"{PASSWORD}\n")
        self.port, nobody = free_port(), free_port()
        places = {
            "rarefirst": str(Path(sys.executable).parent / "rarefirst"),
            "/run/secrets": str(secrets),
            "/data": str(folder / "data"),
            "9090": str(self.port),
            "http://rarefirst.internal:9090": f"http://127.0.0.1:{self.port}",
            # Nobody is there: it must be well all the same.
            "http://label-studio:8080": f"http://127.0.0.1:{nobody}",
        }
        assert secrets_of(compose, services["web"]) == secrets_of(compose, services["worker"])
        self.processes = {
            name: _process(service, places, "BASIC_AUTH_USER") for name, service in services.items()
        }
        self.tests = {
            name: [places["rarefirst"], *service["healthcheck"]["test"][2:]]
            for name, service in services.items()
        }
        self.services = {
            name: Service(name, process.command, env=self.environment(name),
                          log_path=folder / f"{name}.log")
            for name, process in self.processes.items()
        }  # fmt: skip

    def environment(self, name: str) -> dict[str, str]:
        """All variables of one of them."""
        return clean_environment(self.processes[name].environment)

    def is_well(self, name: str) -> bool:
        """What the health check of its container says."""
        check = subprocess.run(
            self.tests[name], env=self.environment(name), capture_output=True, check=False
        )
        return check.returncode == 0


def _process(service: dict[str, object], places: dict[str, str], untouched: str) -> Process:
    process = process_of(service)
    here = process.here(places)
    # The user is called as the program is.
    return Process(here.command, {**here.environment, untouched: process.environment[untouched]})


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    found = Containers(tmp_path)
    yield found
    for service in found.services.values():
        service.stop()


def test_both_become_well_and_end_well(containers: Containers) -> None:
    assert not containers.is_well("web")
    assert not containers.is_well("worker")
    for service in containers.services.values():
        service.start()
    url = f"http://127.0.0.1:{containers.port}"
    web, worker = containers.services["web"], containers.services["worker"]
    web.wait_until_up(f"{url}/health", timeout_s=120)
    assert containers.is_well("web"), web.log_tail()
    deadline = time.monotonic() + 120
    while not containers.is_well("worker"):
        assert worker.alive, worker.log_tail()
        assert time.monotonic() < deadline, worker.log_tail()

    # The password came from its file.
    assert requests.get(f"{url}/versions", timeout=10).status_code == 401
    answer = requests.get(f"{url}/versions", auth=("rarefirst", PASSWORD), timeout=10)
    assert answer.status_code == 200
    assert PASSWORD not in web.log_tail(1000) + worker.log_tail(1000)

    worker.stop()
    assert not containers.is_well("worker")
    assert containers.is_well("web")
