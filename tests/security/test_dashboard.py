"""Other sites, other sessions and other projects: what a browser must not be made to do or show."""

from __future__ import annotations

import io
import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from backend.app import create_app
from backend.dashboard.actions import ACTIONS
from backend.dashboard.protection import COOKIE, HEADERS, Sessions
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.labelstudio.image_cache import ImageCache, image_key
from backend.mirror import Mirror, MirroredTask
from backend.pinning import pin
from backend.projects import ProjectStores
from backend.settings import Settings
from tests.recorded import CREATED_S, PROJECT_ID
from tests.security.conftest import Tried
from tests.unit.backend.dashboard.conftest import anyone, browser, guarded, kept
from tests.unit.backend.dashboard.kept import OURS, PASSWORD, USER, Kept, png, token_of
from tests.unit.backend.dashboard.test_actions import state_of

__all__ = ["anyone", "browser", "guarded", "kept"]

RIGHT = authorization_header(USER, PASSWORD)
METHODS = ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
#: What browsers say of a request that another site's page made them send.
FOREIGN = [
    {"Origin": "null"},
    {"Origin": "http://evil.test"},
    {"Origin": "http://localhost.evil.test"},
    {"Origin": "http://evil.test#http://localhost"},
    {"Origin": "http://localhost@evil.test"},
    {"Origin": "http://localhost:81"},
    {"Origin": "file://localhost"},
    {"Origin": "http://["},
    {"Origin": "http://"},
    {"Origin": "//localhost"},
    {"Origin": "localhost"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "http://localhost", "Sec-Fetch-Site": "same-site"},
    {"Origin": "http://evil.test", "Sec-Fetch-Site": "same-origin"},
    {"Origin": "http://evil.test", "Referer": "http://localhost/project/1"},
    {"Origin": "http://evil.test", "Host": "localhost"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "unknown"},
]
#: What is no word of another site, and no word of ours either: a button needs one.
SILENT = [
    {},
    {"Referer": "http://evil.test/http://localhost/"},
    {"Referer": "http://evil.test/?http://localhost/project/1"},
    {"Origin": "", "Referer": ""},
    {"Sec-Fetch-Site": "none"},
]


def rules(app: Flask) -> Iterator[tuple[str, str]]:
    """Every route with what is there in place of its variables, and every method it takes."""
    there = {"project_id": "1", "task_id": "5", "name": "pause", "version": "1", "job": "1-0.5"}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", lambda found: there[found[1]], rule.rule)
        for method in sorted(rule.methods or ()):
            yield method, path


# Buttons -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ACTIONS)
def test_no_other_site_and_no_other_session_presses_a_button(
    browser: FlaskClient, guarded: Settings, kept: Kept, tried: Tried, name: str
) -> None:
    pin(kept.store, "v0001")
    (kept.store.root / "paused").touch()
    token = token_of(browser.get("/project/1").text)
    ours = browser.get_cookie(COOKIE)
    assert ours is not None
    cookie = ours.value
    own, other = Sessions(guarded.data_dir), Sessions(guarded.data_dir / "other")
    stranger, theirs = own.begin(), other.begin()
    nonce, _, seal = cookie.partition(".")
    attacks: list[tuple[dict[str, str], str | None, str | None]] = [
        *((headers, cookie, token) for headers in [*FOREIGN, *SILENT]),
        # Ours in all but the token.
        *((OURS, cookie, wrong) for wrong in (None, "", "0" * 64, token[:-1], token + "0", "é")),
        *((OURS, cookie, wrong) for wrong in (token.upper(), f" {token}", f"{token}\n", cookie)),
        (OURS, cookie, own.token(stranger)),
        (OURS, cookie, other.token(cookie)),
        # Ours in all but the cookie.
        *((OURS, missing, token) for missing in (None, "")),
        (OURS, stranger, token),
        (OURS, theirs, token),
        (OURS, theirs, other.token(theirs)),
        (OURS, theirs, own.token(theirs)),
        *((OURS, made, own.token(made)) for made in ("x", "x.", f"{nonce}.", f".{seal}")),
        *((OURS, made, own.token(made)) for made in (f"x{cookie}", f"{cookie}0", nonce, seal)),
    ]
    before = state_of(kept)
    for headers, sent, form in attacks:
        browser.delete_cookie(COOKIE)
        if sent is not None:
            browser.set_cookie(COOKIE, sent)
        data = {"version": "v0001"} | ({} if form is None else {"token": form})
        answer = browser.post(f"/project/1/actions/{name}", data=data, headers=headers)
        assert answer.status_code == 403, (headers, sent, form)
        assert state_of(kept) == before
    tried(len(attacks))


@pytest.mark.parametrize("name", ACTIONS)
def test_only_a_form_presses_a_button(
    browser: FlaskClient, kept: Kept, tried: Tried, name: str
) -> None:
    """Not an address, not another method, and not a token that stands anywhere but in the form."""
    pin(kept.store, "v0001")
    token = token_of(browser.get("/project/1").text)
    path = f"/project/1/actions/{name}"
    before = state_of(kept)
    asked = 0
    for method in METHODS:
        for query in ("", f"?token={token}&version=v0001", f"?_method=POST&token={token}"):
            answer = browser.open(
                path + query,
                method=method,
                headers={**OURS, "X-HTTP-Method-Override": "POST"},
                data={"token": token},
            )
            assert answer.status_code in {200, 405}, method
            assert answer.status_code == 405 or method == "OPTIONS"
            assert state_of(kept) == before
            asked += 1
    for sent in (
        {"query_string": {"token": token}},
        {"json": {"token": token, "version": "v0001"}},
        {"data": f"token={token}", "content_type": "text/plain"},
        {"headers": {**OURS, "X-CSRF-Token": token, "token": token}},
    ):
        answer = browser.post(path, **{"headers": OURS, **sent})  # type: ignore[arg-type]  # mixed
        assert answer.status_code == 403
        assert state_of(kept) == before
        asked += 1
    tried(asked)


def test_no_other_site_posts_to_any_address(browser: FlaskClient, kept: Kept, tried: Tried) -> None:
    """A browser sends the login along by itself, with a body that another site's page chose."""
    pin(kept.store, "v0001")
    before = state_of(kept)
    asked = 0
    bodies = (
        {"project": f"{PROJECT_ID}.{CREATED_S}"},
        {"project": {"id": 1}, "action": "START_TRAINING"},
    )
    for method, path in rules(browser.application):
        if method in ("GET", "HEAD", "OPTIONS"):
            continue
        for headers in FOREIGN:
            for body in bodies:
                answer = browser.open(
                    path,
                    method=method,
                    data=json.dumps(body),
                    headers={"Content-Type": "text/plain", **headers},
                )
                assert answer.status_code == 403, (path, headers)
                asked += 1
    assert state_of(kept) == before
    assert asked > 150
    tried(asked)


def test_label_studio_says_nothing_of_a_site_and_is_heard(browser: FlaskClient, kept: Kept) -> None:
    body = {"project": {"id": PROJECT_ID}, "action": "START_TRAINING"}
    assert browser.post("/webhook", json=body).status_code == 200
    assert kept.store.hinted_at("force_fit") is not None
    assert browser.post("/setup", json={}, headers=OURS).status_code == 200


# Headers -----------------------------------------------------------------------------------------


def test_every_answer_says_what_browsers_may_do_with_it(
    browser: FlaskClient, anyone: FlaskClient, kept: Kept, tried: Tried
) -> None:
    """Pages, files, JSON, refusals, what is not found, what is redirected, and what fails."""
    kept.cache(5)
    asked = [
        *rules(browser.application),
        *(
            (method, path)
            for method in METHODS
            for path in ("/nothing", "/project/x", "//versions")
        ),
    ]
    private = 0
    for login in (RIGHT, "", "Basic x"):
        for accept in ("text/html", "*/*"):
            for method, path in asked:
                headers = {"Authorization": login, "Accept": accept, **OURS}
                answer = anyone.open(path, method=method, headers=headers)
                for name, value in HEADERS.items():
                    assert answer.headers.get(name) == value, (method, path, name)
                kept_how = answer.headers["Cache-Control"]
                files = path.startswith("/dashboard/") or "/picture/" in path
                assert kept_how == "no-store" or (files and answer.status_code == 200), path
                assert "Access-Control-Allow-Origin" not in answer.headers
                private += kept_how == "no-store"
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert private > 100
    tried(6 * len(asked))


def test_no_answer_leads_elsewhere(browser: FlaskClient, kept: Kept, tried: Tried) -> None:
    """Redirects go to our own pages, whatever stands in an address or a form."""
    token = token_of(browser.get("/project/1").text)
    evil = ["//evil.test", "/\\evil.test", "http://evil.test", "https:evil.test", "%2f%2fevil.test"]
    asked = redirected = 0
    for place in evil:
        paths = [place, f"/{place}", f"/project/1{place}", f"/{place}/../..", f"//{place}/%2e%2e/"]
        answers = [
            browser.get("/", environ_overrides={"PATH_INFO": unquote(path)})
            for path in (*paths, f"/{place}//versions", f"//{place}")
        ]
        for field in ("next", "done", "return", "url", "redirect"):
            query = {field: place}
            answers += [
                browser.get("/project/1", query_string=query),
                browser.post(
                    "/project/1/actions/pause",
                    data={"token": token, field: place},
                    query_string=query,
                    headers=OURS,
                ),
            ]
        for answer in answers:
            asked += 1
            to = answer.headers.get("Location")
            if to is not None:
                redirected += 1
                assert to.startswith(("http://localhost/", "/project/1?done=pause")), to
                assert not to.startswith("//")
            assert "Refresh" not in answer.headers
    assert redirected > 20
    tried(asked)


# Pictures ----------------------------------------------------------------------------------------

ADDRESSES = [
    "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/x.png", "http://[::1]/x.png",
    "http://2130706433/", "https://example.com/x.png", "ftp://example.com/x.png",
    "file:///etc/passwd", "/etc/passwd", "../../../../etc/passwd",
    "/data/local-files/?d=etc/passwd",
    "/data/upload/../../../etc/passwd", "s3://bucket/key.png", "gs://b/k", "azure-blob://c/k",
    "\\\\host\\share\\x.png", "x\x00y", "", " ", "data:", "data:,", "data:image/png;base64,AAAA",
    "data:text/html,<script>alert(1)</script>", "data:image/svg+xml,<svg onload=alert(1)>",
    "javascript:alert(1)", "about:blank", "a" * 100_000,
]  # fmt: skip


def test_no_picture_is_fetched_or_read_from_elsewhere(
    browser: FlaskClient, kept: Kept, monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    """Only what the loop has put in the cache is shown; a page asks nobody for anything."""

    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(f"a page asked for {arguments}")

    Mirror(kept.store.path("mirror")).upsert(
        [MirroredTask(1000 + number, uri) for number, uri in enumerate(ADDRESSES)]
    )
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for number in range(len(ADDRESSES)):
        answer = browser.get(f"/project/1/picture/{1000 + number}")
        assert answer.status_code == 404, ADDRESSES[number]
        assert answer.content_type == "application/json"
    assert browser.get("/project/1/picture/5").status_code == 200
    assert browser.get("/project/1/queue").status_code == 200
    tried(len(ADDRESSES))


def test_a_picture_is_of_its_own_project(
    browser: FlaskClient, guarded: Settings, kept: Kept, tried: Tried
) -> None:
    """Neither by its number nor by its address does another project show it."""
    stores = ProjectStores(guarded.data_dir, guarded.label_studio_url)
    other = stores.create(2, CREATED_S, "another")
    Mirror(other.path("mirror")).upsert([MirroredTask(5, "/other.png"), MirroredTask(50, "/o.png")])
    Mirror(kept.store.path("mirror")).upsert([MirroredTask(51, "/o.png")])
    cache = ImageCache(guarded.data_dir / "images", max_bytes=1 << 20)
    cache.put(image_key("/o.png", other.key), png((0, 0, 255)))
    for path, there in [
        ("/project/1/picture/5", True), ("/project/2/picture/50", True),
        ("/project/2/picture/5", False), ("/project/1/picture/50", False),
        ("/project/1/picture/51", False), ("/project/2/picture/51", False),
        ("/project/3/picture/5", False), ("/project/0/picture/5", False),
    ]:  # fmt: skip
        answer = browser.get(path)
        assert (answer.status_code == 200) is there, path
        assert there or answer.status_code in {404, 409}
    tried(8)


@pytest.mark.parametrize(
    "path",
    [
        "/project/1/picture/%2e%2e%2f5", "/project/1/picture/../../x", "/project/1/picture/5/../6",
        "/project/1/picture/5%00", "/project/1/picture/5.jpg", "/project/1/picture/+5",
        "/project/1/picture/0x5", "/project/1/picture/5e0", "/project/1/picture/-5",
        "/project/..%2f1/picture/5", "/project/1-0123abcd/picture/5", "/project/1/picture/",
        "/project/1/picture/" + "9" * 5000, "/project/1/picture/\u0665", "/project/1/picture/5 ",
    ],
)  # fmt: skip
def test_no_spelling_of_a_picture_is_a_path(browser: FlaskClient, kept: Kept, path: str) -> None:
    assert browser.get(path).status_code == 404


def test_what_is_shown_is_never_the_file_that_was_imported(
    browser: FlaskClient, kept: Kept, tried: Tried
) -> None:
    """A file that is a picture and a page at once comes out as a small JPEG without the page."""
    page = b"<html><script>alert('canary')</script></html>"
    exif = Image.Exif()
    exif[0x9286] = exif[0x010E] = page.decode()
    notes = {"comment": page, "exif": exif, "xmp": page, "icc_profile": page, "description": "x"}
    cache = ImageCache(kept.settings.data_dir / "images", max_bytes=1 << 22)
    files = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        buffer = io.BytesIO()
        known = {} if kind in ("BMP", "TIFF") else notes
        Image.new("RGB", (800, 600), (10, 200, 30)).save(buffer, kind, **known)
        files.append(buffer.getvalue() + page)
    for number, data in enumerate(files):
        uri = f"/data/upload/1/both-{number}"
        Mirror(kept.store.path("mirror")).upsert([MirroredTask(2000 + number, uri)])
        cache.put(image_key(uri, kept.store.key), data)
        answer = browser.get(f"/project/1/picture/{2000 + number}")
        assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert b"canary" not in answer.data
        assert len(answer.data) < 60_000
        with Image.open(io.BytesIO(answer.data)) as shown:
            assert (shown.format, max(shown.size)) == ("JPEG", 240)
    tried(len(files))


def test_no_login_no_picture_whatever_the_browser_has_already(
    guarded: Settings, anyone: FlaskClient, browser: FlaskClient, kept: Kept
) -> None:
    tag = browser.get("/project/1/picture/5").headers["ETag"]
    stranger = create_app(guarded, Jobs(guarded)).test_client()
    for headers in ({"If-None-Match": tag}, {"If-None-Match": "*"}, {"Range": "bytes=0-"}):
        assert stranger.get("/project/1/picture/5", headers=headers).status_code == 401
