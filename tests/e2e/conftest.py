"""A real Label Studio for the whole session, and our service beside it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from demo.backend_process import Backend
from demo.label_studio_api import LabelStudioApi, sign_up
from demo.label_studio_process import Login, label_studio
from demo.ports import free_port
from tests.canary import CANARIES
from tests.e2e.databases import (
    Database,
    PostgresDatabase,
    SqliteDatabase,
    migrated_postgres,
    on_postgres,
)
from tests.e2e.harness import (
    NewBackend,
    NewProject,
    Project,
    Studio,
    make_backend,
    make_project,
)
from tests.postgres import Postgres


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Label Studio."""
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres | None]:
    """A PostgreSQL server, where the tests are to run on one."""
    if not on_postgres():
        yield None
        return
    with migrated_postgres(tmp_path_factory.mktemp("migrations")) as server:
        yield server


def _start_studio(
    folder: str, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None
) -> Iterator[Studio]:
    run_dir = tmp_path_factory.mktemp(folder)
    database: Database = (
        SqliteDatabase(run_dir / "data") if postgres is None else PostgresDatabase(postgres)
    )
    files = run_dir / "files"
    files.mkdir()
    extra = {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
        **database.environment,
    }
    login = Login("owner@example.com", secrets.token_hex(8), secrets.token_hex(20))
    CANARIES.watch(login.password, "the password of Label Studio")
    CANARIES.watch(login.token, "the token of Label Studio")
    (run_dir / "data").mkdir()
    database.prepare()
    port = free_port()
    service = label_studio(run_dir / "data", port=port, login=login, run_dir=run_dir, extra=extra)
    url = f"http://127.0.0.1:{port}"
    service.start()
    apis: list[LabelStudioApi] = []
    try:
        service.wait_until_up(url + "/health", timeout_s=180)
        apis.append(LabelStudioApi(url, login.token))
        apis.append(sign_up(url, email="colleague@example.com", password=login.password))
        yield Studio(service, login, *apis, files=files, database=database)
    finally:
        for api in apis:
            api.close()
        service.stop()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None) -> Iterator[Studio]:
    """One Label Studio for all tests. Leave it running."""
    yield from _start_studio("label-studio", tmp_path_factory, postgres)


@pytest.fixture
def own_studio(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None
) -> Iterator[Studio]:
    """A Label Studio for this test alone, which may stop and start it."""
    yield from _start_studio("own-label-studio", tmp_path_factory, postgres)


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
