"""The web application as Label Studio meets it, with and without a password."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.app import create_app
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.settings import Settings

PAYLOADS = Path(__file__).parent / "payloads" / "1.23.2"
Send = Callable[[str, bytes], TestResponse]


@pytest.fixture
def jobs(settings: Settings) -> Jobs:
    return Jobs(settings.model_copy(update={"debounce_s": 0.0}))


@pytest.fixture(params=["open", "basic auth"])
def send(request: pytest.FixtureRequest, settings: Settings, jobs: Jobs) -> Send:
    """Post a body with the headers that were recorded for its path."""
    update: dict[str, object] = {"max_body_mb": 250}
    headers: dict[str, str] = {}
    if request.param == "basic auth":
        update |= {"basic_auth_user": "rarefirst", "basic_auth_pass": "secret"}
        headers["Authorization"] = authorization_header("rarefirst", "secret")
    client: FlaskClient = create_app(settings.model_copy(update=update), jobs).test_client()
    recorded = json.loads((PAYLOADS / "headers.json").read_text())
    by_path = {entry["path"]: entry["headers"] for entry in recorded.values()}
    skip = {"host", "content-length", "connection", "authorization"}

    def post(path: str, body: bytes) -> TestResponse:
        known = {k: v for k, v in by_path[path].items() if k.lower() not in skip}
        return client.post(path, data=body, headers={**known, **headers})

    return post
