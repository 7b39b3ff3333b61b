"""The dashboard in a real browser: figures drawn, panels filled, buttons pressed, no complaint.

Over a folder made by hand: neither Label Studio nor a worker runs. `test_browser.py` looks at a
real project's page.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from werkzeug.serving import make_server

from backend.app import create_app
from backend.dashboard import likeness
from backend.jobs import Jobs
from backend.projects import ProjectStores
from backend.settings import Settings
from tests.e2e.browser.chromium import Browser
from tests.e2e.browser.looks import contrasts, names, walk_by_tab
from tests.unit.backend.dashboard.kept import EVIL, Kept

logger = logging.getLogger(__name__)

LABEL_STUDIO = "http://label-studio.invalid"
PAGES = ("/", "/project/1", "/project/1/queue", "/project/1/review", "/project/1/compare")
VERSIONS = "?a=v0001&b=v0002"
LEAST_CONTRAST = 4.5  # WCAG 2.1, level AA
#: Generous: a loaded machine paints slowly. `benchmarks.dashboard` has the figure.
FIRST_PAINT_MS = 10_000


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
    made = Kept(settings, store, rare=EVIL, boxes=request.param == "boxes").fill()
    made.version("v0002", labels=6)
    return made


only_choices = pytest.mark.parametrize("kept", ["choices"], indirect=True)


@pytest.fixture
def address(window: Browser, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the dashboard is, with its login. No version here could order anything."""
    said = {"tasks": 8, "overlap": [{"first": 10, "common": 6}], "spearman": 0.875}
    code = f"print({json.dumps({'order': said})!r})"
    monkeypatch.setattr(likeness, "_command", lambda *_: [sys.executable, "-c", code])
    app = create_app(kept.settings, Jobs(kept.settings))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://label:label@127.0.0.1:{server.server_port}"
    window.open("about:blank")  # a page asks again and again, also where nobody answers any more
    server.shutdown()
    thread.join()
    server.server_close()


def look(window: Browser, *, width: int, dark: bool) -> None:
    """Another width, another scheme of colours."""
    window.show_as(width=width, height=800, dark=dark)


def filled(window: Browser) -> bool:
    """Whether figures are drawn and the queue is there, with its pictures loaded."""
    return bool(
        window.run(
            "document.querySelectorAll('.card img').forEach(one => { one.loading = 'eager' });"
            "return document.querySelectorAll('.js-plotly-plot').length === 3"
            " && document.querySelectorAll('#queue .card').length === 8"
            " && document.querySelectorAll('#review .card').length === 1"
            # Of two queued tasks, of the labeled one that three are like, and doubted.
            " && [...document.querySelectorAll('.card img')].length === 2 + 3 + 1"
            " && [...document.querySelectorAll('.card img')].every(one => one.naturalWidth)"
        )
    )


def path_of(page: str) -> str:
    return page + VERSIONS if page.endswith("compare") else page


def settled(window: Browser, page: str) -> None:
    """Wait until everything that a page fetches is there."""
    if page == "/project/1":
        window.until(lambda: filled(window), "figures, queue, doubted labels and pictures")
    if page.endswith("compare"):
        window.shows("rank correlation of rarity 0.875")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_a_page_is_whole(window: Browser, address: str, width: int, dark: bool) -> None:
    look(window, width=width, dark=dark)
    window.open(f"{address}/project/1")
    settled(window, "/project/1")
    assert window.severe() == []
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return document.querySelectorAll('script:not([src])').length") == 3
    background = window.run("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(16, 20, 26)" if dark else "rgb(244, 246, 249)")
    painted = window.run(
        "return performance.getEntriesByName('first-contentful-paint').map(one => one.startTime)"
    )
    logger.info("first paint after %s ms", painted)
    assert painted[0] < FIRST_PAINT_MS


@only_choices
@pytest.mark.parametrize("page", PAGES)
def test_every_page_can_be_read_and_named(window: Browser, address: str, page: str) -> None:
    for dark in (False, True):
        look(window, width=1280, dark=dark)
        window.open(address + path_of(page))
        settled(window, page)
        window.run("document.querySelectorAll('details').forEach(one => { one.open = true })")
        told = names(window)
        logger.info("%s: %s named elements %s", page, sum(told.named.values()), told.named)
        assert told.unnamed == []
        assert told.named["link"] >= 2
        ratios = contrasts(window)
        logger.info("%s: least contrast of %s texts %s", page, len(ratios), ratios[0])
        assert len(ratios) > 4
        assert [one for one in ratios if one[0] < LEAST_CONTRAST] == []
        assert window.severe() == []
    look(window, width=360, dark=False)
    wide = "return document.documentElement.scrollWidth"
    window.until(lambda: window.run(wide) <= 360, "all details open fit a phone", timeout_s=10)


@only_choices
@pytest.mark.parametrize("page", ["/", "/project/1", "/project/1/compare"])
def test_all_is_reached_by_the_keyboard(window: Browser, address: str, page: str) -> None:
    look(window, width=1280, dark=False)
    window.open(address + path_of(page))
    settled(window, page)
    reached, wrong = walk_by_tab(window)
    logger.info("%s: %s reached by Tab", page, reached)
    assert wrong == []
    assert reached >= 3


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
    settled(window, "/project/1")
    assert "<script>" in window.run("return document.body.innerText")
    assert window.run("return document.querySelectorAll('main script:not([type])').length") == 0


def test_why_a_task_is_rare_is_shown(window: Browser, address: str, kept: Kept) -> None:
    look(window, width=1280, dark=False)
    window.open(f"{address}/project/1")
    settled(window, "/project/1")
    card = window.run("return document.querySelector('#queue .card').innerText")
    assert "most like these rare ones" in card
    assert "+2.2 sd" in card
    rects = window.run("return document.querySelectorAll('#queue .card .boxes rect').length")
    assert rects == (2 if kept.boxes else 0)
    if kept.boxes:
        inside = window.run(
            "const box = document.querySelector('.boxes .decides').getBoundingClientRect();"
            "const shown = document.querySelector('#queue .card img').getBoundingClientRect();"
            "return [(box.left - shown.left) / shown.width, (box.top - shown.top) / shown.height]"
        )
        assert inside == pytest.approx([0.1, 0.2], abs=0.03)


@only_choices
def test_without_scripts_panels_are_links_and_buttons_work(
    window: Browser, address: str, kept: Kept
) -> None:
    look(window, width=1280, dark=False)
    window.scripts(allowed=False)
    try:
        window.open(f"{address}/project/1")
        window.click("a", text="Show the head of the queue")
        window.shows("most like these rare ones", "Back to project 1")
        window.open(f"{address}/project/1")
        window.click("button", text="Pause")
        window.shows("The project is paused")
        assert kept.store.paused
    finally:
        window.scripts(allowed=True)
