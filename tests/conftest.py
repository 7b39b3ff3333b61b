"""What tests share: settings of their own, a published project, one Label Studio."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as hypothesis_settings

from backend.projects import ProjectStore, ProjectStores, Publication
from backend.settings import Settings
from tests import canary, published
from tests.recorded import CREATED_S, LABEL_STUDIO, PROJECT_ID

if TYPE_CHECKING:
    from tests.e2e.harness import Studio
    from tests.postgres import Postgres

Publish = Callable[..., Publication]
TOKEN = canary.secret("the token of tests")

# A property holds or not; how long an example takes on a busy machine tells nothing
# (hypothesis would fail one that takes more than 200 ms).
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Search all output for secrets."""
    config.pluginmanager.register(canary, canary.__name__)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-seed", type=int, default=7, help="which faults come, and when (tests/faults)"
    )
    parser.addoption(
        "--fault-rounds",
        type=int,
        help="random rounds; else one a kind, 200 of those marked slow",
    )
    parser.addoption(
        "--fault-report", metavar="FILE", help="write what was injected and survived, as JSON"
    )


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres | None]:
    """A PostgreSQL server, where the tests are to run on one."""
    from tests.e2e.databases import migrated_postgres, on_postgres

    if not on_postgres():
        yield None
        return
    with migrated_postgres(tmp_path_factory.mktemp("migrations")) as server:
        yield server


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres | None) -> Iterator[Studio]:
    """One Label Studio for all tests of this process. Leave it running."""
    # Here: whoever runs unit tests only need not load what starts one.
    from tests.e2e.harness import start_studio

    yield from start_studio(tmp_path_factory.mktemp("label-studio"), postgres)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's own environment reaches a test."""
    names = {"BASIC_AUTH_USER", "BASIC_AUTH_PASS", "PORT", "WORKERS", "THREADS", "LOG_LEVEL"}
    names |= {"LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "MODEL_DIR"}
    names |= {"LABEL_STUDIO_API_KEY_FILE", "BASIC_AUTH_PASS_FILE"}
    for name in list(os.environ):
        if name in names or name.startswith("RAREFIRST_"):
            monkeypatch.delenv(name)


@pytest.fixture
def settings(clean_environment: None, tmp_path: Path) -> Settings:
    """Settings of a service with a data directory of its own."""
    return Settings(
        data_dir=tmp_path / "data",
        label_studio_url=LABEL_STUDIO,
        label_studio_api_key=TOKEN,
        max_body_mb=1,
        debounce_s=0.15,
        debounce_max_s=0.6,
        timer_s=60,
        predict_budget_s=2,
    )


@pytest.fixture
def store(settings: Settings) -> ProjectStore:
    """The folder of the recorded payloads' project."""
    stores = ProjectStores(settings.data_dir, settings.label_studio_url)
    return stores.create(PROJECT_ID, CREATED_S, "cls")


@pytest.fixture
def publish(store: ProjectStore) -> Publish:
    """Publish rarities of some tasks, as the loop does."""

    return partial(published.publish, store)
