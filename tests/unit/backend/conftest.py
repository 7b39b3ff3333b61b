"""A web application and its test client."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend.app import create_app
from backend.jobs import Jobs
from backend.settings import Settings


class Recorder:
    """Takes the worker's messages down instead of doing them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def reconcile(self, store_key: str) -> None:
        self.calls.append(("reconcile", store_key))

    def register(self, project_id: int) -> None:
        self.calls.append(("register", project_id))

    def discover(self) -> None:
        self.calls.append(("discover", None))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def jobs(settings: Settings, recorder: Recorder) -> Jobs:
    return Jobs(settings, handler=recorder, immediate=True)


@pytest.fixture
def app(settings: Settings, jobs: Jobs) -> Flask:
    return create_app(settings, jobs)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
