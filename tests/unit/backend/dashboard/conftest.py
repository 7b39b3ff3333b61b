"""Projects made by hand, and a browser's way of asking for their pages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from backend.app import create_app
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.unit.backend.dashboard.kept import OURS, PASSWORD, USER, Kept, token_of

Press = Callable[..., TestResponse]


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    """Settings with a login."""
    return settings.model_copy(update={"basic_auth_user": USER, "basic_auth_pass": PASSWORD})


@pytest.fixture
def kept(guarded: Settings, store: ProjectStore) -> Kept:
    """A project with something in every panel."""
    return Kept(guarded, store).fill()


@pytest.fixture
def anyone(guarded: Settings) -> FlaskClient:
    """A client without login."""
    return create_app(guarded, Jobs(guarded)).test_client()


@pytest.fixture
def browser(anyone: FlaskClient) -> FlaskClient:
    """A client that is logged in and asks for pages."""
    anyone.environ_base["HTTP_AUTHORIZATION"] = authorization_header(USER, PASSWORD)
    anyone.environ_base["HTTP_ACCEPT"] = "text/html,application/xhtml+xml,*/*;q=0.8"
    return anyone


@pytest.fixture
def press(browser: FlaskClient) -> Press:
    """Press a button of project 1, as its page would."""

    def pressed(name: str, *, headers: dict[str, str] = OURS, **fields: str) -> TestResponse:
        if "token" not in fields:
            fields["token"] = token_of(browser.get("/project/1").text)
        return browser.post(f"/project/1/actions/{name}", data=fields, headers=headers)

    return pressed
