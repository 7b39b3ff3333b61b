"""What unit and contract tests of the service share: settings of its own, a published project."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from backend.projects import ProjectStore, ProjectStores, Publication
from backend.settings import Settings
from tests import canary, published
from tests.recorded import CREATED_S, LABEL_STUDIO, PROJECT_ID

Publish = Callable[..., Publication]
TOKEN = canary.secret("the token of tests")

# A property holds or not; how long an example takes on a busy machine tells nothing
# (hypothesis would fail one that takes more than 200 ms).
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Search all output for secrets."""
    config.pluginmanager.register(canary, canary.__name__)


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
