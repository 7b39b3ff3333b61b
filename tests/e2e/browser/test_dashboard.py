"""The dashboard in a real browser: figures drawn, panels filled, buttons pressed, no complaint.

Over a folder made by hand: neither Label Studio nor a worker runs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from werkzeug.serving import make_server

from backend.app import create_app
from backend.jobs import Jobs
from backend.projects import ProjectStores
from backend.settings import Settings
from tests.e2e.browser.chromium import Browser
from tests.unit.backend.dashboard.kept import EVIL, Kept

LABEL_STUDIO = "http://label-studio.invalid"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("chromium"))
    yield opened
    opened.close()


@pytest.fixture(params=["choices", "boxes"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    settings = Settings(
        data_dir=tmp_path / "data",
        label_studio_url=LABEL_STUDIO,
        basic_auth_user="label",
        basic_auth_pass="label",
    )
    store = ProjectStores(settings.data_dir, LABEL_STUDIO).create(1, 1_795_231_806, "squares")
    return Kept(settings, store, rare=EVIL, boxes=request.param == "boxes").fill()


@pytest.fixture
def address(kept: Kept) -> Iterator[str]:
    """Where the dashboard is, with its login."""
    app = create_app(kept.settings, Jobs(kept.settings))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://label:label@127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def look(window: Browser, *, width: int, dark: bool) -> None:
    """Another width, another scheme of colours."""
    window.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    window.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def filled(window: Browser) -> bool:
    """Whether figures are drawn and the queue is there, with its pictures loaded."""
    return bool(
        window.run(
            "document.querySelectorAll('.card img').forEach(one => { one.loading = 'eager' });"
            "return document.querySelectorAll('.js-plotly-plot').length === 3"
            " && document.querySelectorAll('#queue .card').length === 8"
            " && document.querySelectorAll('#review .card').length === 1"
            " && [...document.querySelectorAll('.card img')].length === 2"
            " && [...document.querySelectorAll('.card img')].every(one => one.naturalWidth)"
        )
    )


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_a_page_is_whole(window: Browser, address: str, width: int, dark: bool) -> None:
    look(window, width=width, dark=dark)
    window.open(f"{address}/project/1")
    window.until(lambda: filled(window), "figures, queue, doubted labels and pictures are there")
    assert window.severe() == []
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return document.querySelectorAll('script:not([src])').length") == 3
    background = window.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(16, 20, 26)" if dark else "rgb(244, 246, 249)")


def test_pause_go_on_and_the_keyboard(window: Browser, address: str, kept: Kept) -> None:
    look(window, width=1280, dark=False)
    window.open(f"{address}/")
    window.press(Keys.TAB)
    focused = "return document.activeElement.textContent"
    assert window.run(focused) == "Skip to the content"
    window.click("a", text="squares")
    window.click("button", text="Pause")
    window.shows("The project is paused; the published queue stays.")
    assert kept.store.paused
    window.run("document.querySelector('form[action$=resume] button').focus()")
    window.press(Keys.ENTER)
    window.shows("The project goes on with its next round.")
    assert not kept.store.paused
    assert window.severe() == []


def test_nothing_that_a_name_says_is_run(window: Browser, address: str) -> None:
    look(window, width=1280, dark=False)
    window.open(f"{address}/project/1")
    window.until(lambda: filled(window), "everything is there")
    assert "<script>" in window.run("return document.body.innerText")
    assert window.run("return document.querySelectorAll('main script:not([type])').length") == 0
