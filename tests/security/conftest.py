"""What the security tests share: small real servers, an app behind a password, a recorder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend.app import create_app
from backend.jobs import Jobs
from backend.settings import Settings
from tests.canary import secret, watch_login
from tests.security.counting import Counts
from tests.unit.backend.conftest import Recorder
from tests.unit.backend.labelstudio.conftest import Serve, serve

__all__ = ["Serve", "Tried", "serve"]

#: Say how many inputs a test tried, and what came of them: ``tried(25, refused=3)``.
Tried = Callable[..., None]

ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD = "label", secret("the password of tests", like="pa:ss wörd")
watch_login(USER, PASSWORD, "the password of tests")


COUNTS = Counts()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tried", metavar="FILE", help="count the inputs that attacks tried, as JSON")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    COUNTS.take(report)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How often each line of docs/SECURITY.md was tried."""
    file = terminalreporter.config.getoption("--tried", default=None)
    if file is not None:
        terminalreporter.section("inputs tried")
        for threat, inputs in COUNTS.table():
            terminalreporter.write_line(f"{inputs:>8}  {threat[:110]}")
        terminalreporter.write_line(f"{COUNTS.inputs.total():>8}  in all")
        COUNTS.write(Path(file))


@pytest.fixture
def jobs(settings: Settings) -> Jobs:
    return Jobs(settings, handler=Recorder(), immediate=True)


@pytest.fixture
def app(settings: Settings, jobs: Jobs) -> Flask:
    return create_app(settings, jobs)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def locked(settings: Settings, jobs: Jobs) -> Flask:
    given = {"basic_auth_user": USER, "basic_auth_pass": PASSWORD}
    return create_app(settings.model_copy(update=given), jobs)


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Tried:
    """Counts inputs for the table of `make hostile`; a test that does not is one input."""

    def note(count: int, **more: int) -> None:
        request.node.user_properties.append(("tried", {"inputs": count, **more}))

    return note
