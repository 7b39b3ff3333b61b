"""Our service beside a real Label Studio (`studio`, in the folder above)."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from demo.backend_process import Backend
from tests.e2e.harness import (
    NewBackend,
    NewProject,
    Project,
    Studio,
    make_backend,
    make_project,
    start_studio,
)
from tests.postgres import Postgres


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Label Studio."""
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def own_studio(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None
) -> Iterator[Studio]:
    """A Label Studio for this test alone, which may stop and start it."""
    yield from start_studio(tmp_path_factory.mktemp("own-label-studio"), postgres)


@pytest.fixture
def new_project(studio: Studio) -> NewProject:
    """Make a digits project: ``new_project(pool_size=140, rare_in_pool=12)``."""

    def make(*, title: str = "Digits", **arguments: int) -> Project:
        return make_project(studio, title=title, **arguments)

    return make


@pytest.fixture
def new_backend(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewBackend]:
    """Start our service with settings of the test's own; all are stopped in the end.

    ``new_backend(extra={...}, label_studio_url=..., start=True)``.
    """
    started: list[Backend] = []

    def make(
        *,
        extra: dict[str, str] | None = None,
        label_studio_url: str = "",
        token: str = "",
        start: bool = True,
    ) -> Backend:
        backend = make_backend(
            label_studio_url or studio.url,
            token or studio.login.token,
            tmp_path_factory.mktemp("rarefirst"),
            extra,
        )
        started.append(backend)
        if start:
            backend.start()
        return backend

    yield make
    for backend in started:
        backend.stop()


@pytest.fixture(scope="module")
def backend_extra() -> dict[str, str]:
    """Further environment variables of ``backend``; a file with some of its own overrides this."""
    return {}


@pytest.fixture(scope="module")
def backend(
    studio: Studio, backend_extra: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Backend]:
    """Our service, one for all tests of a file."""
    folder = tmp_path_factory.mktemp("rarefirst")
    service = make_backend(studio.url, studio.login.token, folder, backend_extra)
    service.start()
    yield service
    service.stop()


@pytest.fixture(autouse=True)
def show_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show the end of the service's log with every failed test."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed and "backend" in request.fixturenames:
        found = request.getfixturevalue("backend")
        os.write(2, f"\n{found.service.log_tail(60)}\n".encode())
