"""One browser, one project that it connects, and what is kept of the page when a test fails."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from demo.backend_process import Backend
from tests.e2e.browser.chromium import Browser, Picture
from tests.e2e.browser.pages import DataManager, Labeling, Settings, log_in
from tests.e2e.harness import Project, Studio, make_project

logger = logging.getLogger(__name__)

# More rare ones than are labeled: some are left at the head of the queue for a picture.
POOL = {"pool_size": 70, "rare_in_pool": 26, "seed_labels": 60}
EXTRA = {
    "RAREFIRST_BOOTSTRAP_STEPS": "40",
    # A browser is slow: the fifth label makes a new order, and nothing before it does.
    "RAREFIRST_FIT_EVERY_LABELS": "5",
    "RAREFIRST_FIT_IDLE_S": "600",
}
# What may fail, and with which status: tips that Label Studio fetches from outside, its icon, and
# the dialog of a connection that is refused for its login, which a test expects.
_LACKS = (("/heidi-tips", ""), ("/favicon", ""), ("/api/ml", "status of 400"))
_OPEN = pytest.StashKey[Browser]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pictures", metavar="DIR", help="save the README's pictures there")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs Chromium; the folder above adds ``e2e``."""
    for item in items:
        if "tests/e2e/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the page of a failed test, and say where."""
    report = yield
    browser = item.session.stash.get(_OPEN, None)
    if report.failed and browser is not None:
        try:
            kept = f"screenshot and source of the page: {browser.keep(item.name)}"
        except Exception as error:  # a browser that died has nothing to show
            kept = f"the page could not be kept: {error}"
        report.sections.append(("browser", kept))
    return report


@pytest.fixture(scope="module")
def browser(
    request: pytest.FixtureRequest, studio: Studio, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """Chromium, logged in as the first user."""
    cache = request.config.cache
    # Pytest's temporary folders are gone after a few runs.
    folder = cache.mkdir("browser") if cache else tmp_path_factory.mktemp("browser")
    opened = Browser(folder)
    request.session.stash[_OPEN] = opened
    try:
        log_in(opened, studio.url, email=studio.login.username, password=studio.login.password)
        yield opened
    finally:
        del request.session.stash[_OPEN]
        opened.close()


@pytest.fixture
def console(browser: Browser, backend: Backend, studio: Studio) -> Iterator[None]:
    """The console complains about nothing but what Label Studio's own pages lack.

    For the tests that look at Label Studio's pages; others need none.
    """
    yield
    severe = browser.severe()
    for message in severe:
        logger.warning("console: %s", message)
    ours = [m for m in severe if not _known(m, studio.url) or backend.url in m]
    assert ours == [], "neither a script nor a request may fail"


def _known(message: str, label_studio: str) -> bool:
    """Whether a severe message is one of Label Studio 1.23.2's own, with us or without."""
    url, _, failure = message.partition(" - ")
    if not failure.startswith("Failed to load resource:"):
        return False  # an uncaught exception of a script, say
    if not url.startswith(label_studio + "/"):
        return True  # analytics, fonts, pictures from outside: not every machine reaches them
    path = url.removeprefix(label_studio).partition("?")[0]
    return any(path.startswith(known) and status in failure for known, status in _LACKS)


@pytest.fixture(scope="module")
def picture(request: pytest.FixtureRequest) -> Picture:
    """``picture("labeling")`` saves the page where ``--pictures`` says; else does nothing."""
    folder = request.config.getoption("--pictures", default=None)

    def save(name: str) -> None:
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            request.getfixturevalue("browser").picture(Path(folder) / f"{name}.png")

    return save


@pytest.fixture(scope="module")
def backend_extra() -> dict[str, str]:
    return EXTRA


@pytest.fixture(scope="module")
def own_settings() -> dict[str, object]:
    """What the dialog says in "extra params": the project's own settings.

    Digits 6 and 7 are named: so few labels do not tell yet that they are rare.
    """
    return {"top_k": 30, "tail_classes": "6,7"}


@pytest.fixture(scope="module")
def project(
    studio: Studio,
    backend: Backend,
    browser: Browser,
    own_settings: dict[str, object],
    picture: Picture,
) -> Project:
    """A digits project, connected by filling the dialog of its settings page."""
    made = make_project(studio, title="Digits, two rare", **POOL)
    assert made.digits.rare == ("6", "7")
    page = Settings(browser, studio.url, made.id)
    user, password = backend.settings.user, backend.settings.password
    page.connect(backend.url, user, password, extra_params=json.dumps(own_settings))
    browser.shows("Connected", backend.url)
    picture("settings")
    made.wait_for_queue()
    return made


@pytest.fixture
def settings_page(studio: Studio, browser: Browser, project: Project) -> Settings:
    return Settings(browser, studio.url, project.id)


@pytest.fixture
def data_manager(studio: Studio, browser: Browser, project: Project) -> DataManager:
    return DataManager(browser, studio.url, project.id)


@pytest.fixture
def labeling(studio: Studio, browser: Browser, project: Project) -> Labeling:
    return Labeling(browser, studio.url, project.id)


@pytest.fixture
def preannotating(
    project: Project, settings_page: Settings, own_settings: dict[str, object]
) -> Iterator[None]:
    """For one test, the project's own settings ask for the predicted classes."""

    def go_by(**wanted: object) -> None:
        before = project.wait_for_queue()
        settings_page.change_extra_params(json.dumps({**own_settings, **wanted}))
        project.wait_for_queue(other_than=before.version)

    go_by(preannotate=True)
    yield
    go_by()
