"""Pages as a browser gets them: who may see them, what they hold, what they must not hold."""

from __future__ import annotations

import gzip
import json

import pytest
from flask import url_for
from flask.testing import FlaskClient

from backend.app import create_app
from backend.dashboard.plotly_js import plotly_version
from backend.jobs import Jobs
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.unit.backend.dashboard.kept import EVIL, Kept
from tests.unit.backend.dashboard.markup import Page

PAGES = [
    "/",
    "/project/1",
    "/project/1/now",
    "/project/1/queue",
    "/project/1/review",
    "/project/1/compare?a=v0001&b=v0001",
]
FILES = [
    "/dashboard/dashboard.css",
    "/dashboard/dashboard.js",
    "/dashboard/plotly.css",
    "/dashboard/icon.svg",
    f"/dashboard/plotly-{plotly_version()}.js",
]
WHOLE = [path for path in PAGES if not path.endswith("/now")]


@pytest.mark.parametrize("path", [*PAGES, *FILES, "/project/1/picture/5"])
def test_nothing_is_shown_without_the_login(anyone: FlaskClient, kept: Kept, path: str) -> None:
    response = anyone.get(path, headers={"Accept": "text/html"})
    assert response.status_code == 401
    assert "squares" not in response.text


def test_no_route_is_forgotten(guarded: Settings) -> None:
    app = create_app(guarded, Jobs(guarded))
    client = app.test_client()
    values = {"project_id": 1, "task_id": 5, "name": "pause", "version": "1", "job": "1-0.5"}
    asked = 0
    with app.test_request_context():
        rules = [
            (method, url_for(rule.endpoint, **{name: values[name] for name in rule.arguments}))
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
        ]
    for method, path in rules:
        if path != "/health":
            assert client.open(path, method=method).status_code == 401, path
            asked += 1
    assert asked > 15


@pytest.mark.parametrize("path", [*PAGES, *FILES])
def test_with_it_everything_is(browser: FlaskClient, kept: Kept, path: str) -> None:
    response = browser.get(path)
    assert response.status_code == 200
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "same-origin"


def test_label_studio_gets_the_answer_that_it_knows(browser: FlaskClient) -> None:
    browser.environ_base["HTTP_ACCEPT"] = "*/*"
    assert browser.get("/").get_json() == {"status": "UP", "model_class": "RareFirst"}


@pytest.mark.parametrize("path", WHOLE)
@pytest.mark.parametrize("drawn", [False, True])
def test_pages_are_well_made(
    browser: FlaskClient, guarded: Settings, store: ProjectStore, path: str, drawn: bool
) -> None:
    Kept(guarded, store, boxes=drawn).fill()
    page = Page(browser.get(path).text)
    assert page.problems == []
    assert page.counts["h1"] == page.counts["main"] == page.counts["title"] == 1


@pytest.mark.parametrize("path", WHOLE)
def test_an_empty_project_has_pages_too(
    browser: FlaskClient, store: ProjectStore, path: str
) -> None:
    response = browser.get(path)
    assert response.status_code == (409 if "compare" in path else 200)  # there is no version
    assert Page(response.text).problems == []


@pytest.mark.parametrize("path", PAGES)
def test_names_and_data_are_text_never_markup(
    browser: FlaskClient, guarded: Settings, store: ProjectStore, path: str
) -> None:
    kept = Kept(guarded, store, rare=EVIL).fill()
    kept.report(title=EVIL, tail=(EVIL, "common"), drift=(EVIL,), unknown_labels={EVIL: 1})
    text = browser.get(path).text
    assert EVIL not in text
    assert "<script>" not in text
    if path != "/project/1/now":
        assert Page(text).problems == []


def test_the_evil_name_is_there_to_read(
    browser: FlaskClient, guarded: Settings, store: ProjectStore
) -> None:
    Kept(guarded, store, rare=EVIL).fill()
    for path in ("/project/1", "/project/1/queue", "/project/1/review"):
        assert "&lt;script&gt;alert(" in browser.get(path).text


def test_a_project_page_has_every_panel(browser: FlaskClient, kept: Kept) -> None:
    text = browser.get("/project/1").text
    for words in (
        "squares",
        "9.0</td>",  # times as many as random order
        "2.0 (1.2 to 6.2)",
        "18 %",
        "fit: 3 of 10 new labels",
        "a problem with rare",
        "About 7 rare ones are left (3 to 15)",
        "better at rare",
        "no image: ",
        "Activate v0001",
        '<span class="mark">rare</span>',
    ):
        assert words in text, words
    figures = [json.loads(one) for one in Page(text).data]
    assert len(figures) == 3  # found, precision, loss
    assert all(figure["data"] and figure["layout"] for figure in figures)


def test_the_queue_shows_pictures_that_are_at_hand_and_names_of_others(
    browser: FlaskClient, kept: Kept
) -> None:
    text = browser.get("/project/1/queue").text
    assert text.count("<img ") == 2 + 3  # two of the queue; the labeled one that three are like
    assert 'src="/project/1/picture/5"' in text
    assert 'src="/project/1/picture/4"' in text
    assert "/data/upload/1/7.png" in text
    assert 'loading="lazy"' in text
    assert "the turn of rare" in text


@pytest.mark.parametrize("drawn", [False, True])
def test_the_queue_says_why_each_task_is_rare(
    browser: FlaskClient, guarded: Settings, store: ProjectStore, drawn: bool
) -> None:
    Kept(guarded, store, boxes=drawn).fill()
    text = browser.get("/project/1/queue").text
    for words in ("<dt>tail mass</dt><dd>62 %", "12.5 ", "+2.2 sd", "0.5 apart"):
        assert words in text, words
    assert (
        text.count('class="decides"') == 4
    ) is drawn  # one picture is there; three lines of words
    assert ("common 50 %" in text) is drawn


def test_the_script_gets_the_panel_alone(browser: FlaskClient, kept: Kept) -> None:
    whole = browser.get("/project/1/queue").text
    part = browser.get("/project/1/queue", headers={"X-Panel": "1"}).text
    assert "<h1>" in whole
    assert "<h1>" not in part
    assert "the turn of rare" in part


def test_a_picture_is_small_private_and_a_jpeg(browser: FlaskClient, kept: Kept) -> None:
    response = browser.get("/project/1/picture/5")
    assert (response.status_code, response.content_type) == (200, "image/jpeg")
    assert "private" in response.headers["Cache-Control"]
    again = {"If-None-Match": response.headers["ETag"]}
    assert browser.get("/project/1/picture/5", headers=again).status_code == 304
    assert browser.get("/project/1/picture/6").status_code == 404


@pytest.mark.parametrize("number", ["9" * 19, str(2**63), "9" * 5000, "\u0663", "-1", "5.0"])
def test_a_number_that_no_task_can_have_is_not_found(
    browser: FlaskClient, kept: Kept, number: str
) -> None:
    for path in (f"/project/1/picture/{number}", f"/project/{number}", f"/project/{number}/queue"):
        assert browser.get(path).status_code == 404, path


def test_without_a_login_to_guard_it_no_picture_and_no_button(
    settings: Settings, store: ProjectStore
) -> None:
    Kept(settings, store).fill()
    client = create_app(settings, Jobs(settings)).test_client()
    assert client.get("/project/1/picture/5").status_code == 404
    assert "<img" not in client.get("/project/1/queue").text
    page = client.get("/project/1").text
    assert page.count("<button") == page.count("disabled") == 4  # one version: no comparison
    assert "BASIC_AUTH_USER" in page


def test_pages_are_not_kept_but_plotly_is(browser: FlaskClient, kept: Kept) -> None:
    assert browser.get("/project/1").headers["Cache-Control"] == "no-store"
    response = browser.get(FILES[-1])
    assert "immutable" in response.headers["Cache-Control"]
    assert b"plotly.js" in gzip.decompress(response.data)[:200]
    assert len(response.data) < 2_000_000
    assert browser.get("/dashboard/plotly-0.0.js").status_code == 404


@pytest.mark.parametrize(
    "path", ["/dashboard/../app.py", "/dashboard/%2e%2e/protection.py", "/dashboard/nothing.css"]
)
def test_only_our_files_are_served(browser: FlaskClient, path: str) -> None:
    assert browser.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/project/7", "/project/7/queue", "/project/1/compare?a=x&b=y"])
def test_errors_are_pages(browser: FlaskClient, store: ProjectStore, path: str) -> None:
    response = browser.get(path)
    assert response.status_code == 409
    page = Page(response.text)
    assert page.problems == []
    assert 'role="alert"' in response.text


def test_the_page_of_a_hundred_projects_lists_them(browser: FlaskClient, kept: Kept) -> None:
    text = browser.get("/").text
    assert '<a href="/project/1">squares</a>' in text
    assert "8 of 9" in text
