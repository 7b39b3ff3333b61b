"""Class names, titles, file names, reasons as others wrote them: text on every page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.projects import ProjectStores
from backend.settings import Settings
from tests.recorded import CREATED_S
from tests.security.conftest import Tried
from tests.security.hostile import HARMLESS, TEXTS, Hostile, Skeleton
from tests.unit.backend.dashboard.conftest import guarded
from tests.unit.backend.dashboard.kept import PASSWORD, USER
from tests.unit.backend.dashboard.markup import Page

__all__ = ["guarded"]

PAGES = ["", "/now", "/queue", "/review", "/compare?a=v0001&b=v0002", "/compare?a={}&b={}"]


def shape(page: str) -> list[object]:
    """What a page is made of. Rows of classes come by name, so which of them differ may move."""
    differs = ("open", "tr", (("class", "differs"),))
    return [("open", "tr", ()) if one == differs else one for one in Skeleton(page).found]


def client_of(settings: Settings) -> FlaskClient:
    client = create_app(settings, Jobs(settings)).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = authorization_header(USER, PASSWORD)
    client.environ_base["HTTP_ACCEPT"] = "text/html"
    return client


def pages_of(settings: Settings, folder: Path, text: str, *, boxes: bool) -> dict[str, str]:
    """Every page of a service with one project in which every text is ``text``."""
    own = settings.model_copy(update={"data_dir": folder})
    store = ProjectStores(folder, own.label_studio_url).create(1, CREATED_S, text)
    Hostile(own, store, rare=text, boxes=boxes).fill()
    client = client_of(own)
    asked = {"/": client.get("/")}
    for path in PAGES:
        address, _, query = path.partition("?")
        parts = dict(part.split("=", 1) for part in query.split("&")) if query else {}
        filled = {name: text if value == "{}" else value for name, value in parts.items()}
        asked[path] = client.get(f"/project/1{address}", query_string=filled)
    for path, answer in asked.items():
        assert answer.status_code == (409 if "{}" in path else 200), (path, text[:50])
        assert answer.content_type == "text/html; charset=utf-8"
    return {path: answer.text for path, answer in asked.items()}


def compare(settings: Settings, folder: Path, texts: Sequence[str], *, boxes: bool) -> int:
    """Render each text on every page beside a harmless one; how many pages there were."""
    plain = pages_of(settings, folder / "plain", HARMLESS, boxes=boxes)
    expected = {path: shape(page) for path, page in plain.items()}
    assert sum(page.count(HARMLESS) for page in plain.values()) > 60
    rendered = 0
    for number, text in enumerate(texts):
        made = pages_of(settings, folder / str(number), text, boxes=boxes)
        for path, page in made.items():
            assert shape(page) == expected[path], (path, text[:50])
            assert path == "/now" or Page(page).problems == [], (path, text[:50])
            assert "alert(1)</script>" not in page, (path, text[:50])
            for data in Page(page).data:
                json.loads(data)
            rendered += 1
    return rendered


@pytest.mark.parametrize("boxes", [False, True], ids=["choices", "boxes"])
def test_no_text_of_others_makes_an_element_an_attribute_or_a_script(
    guarded: Settings, tmp_path: Path, tried: Tried, boxes: bool
) -> None:
    """The same elements with the same addresses as with harmless texts: some texts at a time."""
    short = [text for text in TEXTS if len(text) < 100]
    some = 30 if boxes else 8
    joined = [" ".join(short[start : start + some]) for start in range(0, len(short), some)]
    assert compare(guarded, tmp_path, joined, boxes=boxes) >= 7 * len(joined) > 20
    tried(len(PAGES) * len(short))


@pytest.mark.slow
@pytest.mark.parametrize("boxes", [False, True], ids=["choices", "boxes"])
def test_no_text_of_others_makes_markup_at_length(
    guarded: Settings, tmp_path: Path, tried: Tried, boxes: bool
) -> None:
    tried(compare(guarded, tmp_path, TEXTS, boxes=boxes))


def test_what_others_wrote_is_there_to_read(guarded: Settings, tmp_path: Path) -> None:
    """Escaped once, not twice, not left out: the property above does not hold by absence."""
    for number, text in enumerate(("<b>&amp;\"'</b>", "{{ 7 * 7 }}", "\u732b → \U0001f408")):
        made = pages_of(guarded, tmp_path / str(number), text, boxes=False)
        for path in ("/", "", "/now", "/queue", "/review"):
            assert any(text in one for one in Skeleton(made[path]).texts), path


def test_no_page_grows_with_what_others_wrote(
    guarded: Settings, tmp_path: Path, tried: Tried
) -> None:
    """What may be many is cut: a page is below a megabyte, however many troubles there are."""
    from backend.reconcile.reading_notes import READING_NOTES, ReadingNotes
    from backend.reconcile.state import Failure, Failures

    store = ProjectStores(guarded.data_dir, guarded.label_studio_url).create(1, CREATED_S, "many")
    kept = Hostile(guarded, store).fill()
    bad = Failure(reason="x" * 1000, digest="d", image="y" * 200, tries=2)
    store.write("failures.json", Failures(by_task=dict.fromkeys(range(20_000), bad)))
    noted = dict.fromkeys(range(200), ("z" * 200,) * 3)
    store.write(READING_NOTES, ReadingNotes(by_task=noted, further=tuple(range(300, 50_000))))
    kept.report(failed={f"reason {n} " + "x" * 900: 1 for n in range(2000)}, noted=50_000)
    for _ in range(2000):
        with (store.root / "history.jsonl").open("ab") as file:
            file.write(b'{"at": "2026-11-21T00:00:00Z", "reason": "hint"}\n')
    client = client_of(guarded)
    for path in ("/", *(f"/project/1{path}" for path in PAGES[:4])):
        assert len(client.get(path).data) < 1_000_000, path
    tried(5)
