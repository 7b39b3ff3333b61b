"""One project and one service for all fault tests of a process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Studio
from tests.faults.invariants import Watcher, broken
from tests.faults.journal import Journal
from tests.faults.yard import Yard

_START_S = 400.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Label Studio."""
    for item in items:
        if "tests/faults/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def yard(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A project with a first queue, and nothing left to do."""
    made = Yard(studio, tmp_path_factory.mktemp("faults"))
    try:
        made.start()
        made.rest(timeout_s=_START_S)
        assert broken(made) == []
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def watcher(yard: Yard) -> Iterator[Watcher]:
    """Looks at every moment whether what is served has scores."""
    made = Watcher(yard)
    yield made
    made.close()


@pytest.fixture(scope="session")
def journal(yard: Yard, watcher: Watcher, request: pytest.FixtureRequest) -> Iterator[Journal]:
    """What was injected and survived; written in the end where ``--fault-report`` says."""
    made = Journal(seed=request.config.getoption("--fault-seed"))
    yield made
    path = request.config.getoption("--fault-report")
    if path:
        made.write(Path(path), yard, watcher)


@pytest.fixture(autouse=True)
def show_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show the end of the worker's log with every failed test."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed and "yard" in request.fixturenames:
        parts = request.getfixturevalue("yard").parts
        os.write(2, f"\n{parts.services['worker'].log_tail(60)}\n".encode())
