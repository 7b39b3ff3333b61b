"""Requests from anybody on the network: logins, headers, lines of the log, nested bodies."""

from __future__ import annotations

import base64
import hmac
import io
import itertools
import json
import logging
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend import security
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.logs import LineFormatter, configure_logging, visible
from backend.project_settings import FILE, ProjectSettings
from backend.projects import ProjectStore
from backend.schemas import SetupRequest, parse
from backend.settings import Settings
from tests.security.conftest import PASSWORD, USER, Tried

RIGHT = authorization_header(USER, PASSWORD)
OPEN = {"/health"}
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} web (DEBUG|INFO|WARNING|ERROR) \S+: ")
BREAKS = (
    "\n",
    "\r",
    "\r\n",
    "\x0b",
    "\x0c",
    "\x1b[2J",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\x00",
)
FORGED = "2026-01-01 00:00:00,000 web ERROR backend.app: forged"


def wrong_logins() -> Iterator[str]:
    """No login, wrong ones, and everything that is nearly a right one."""
    good = RIGHT.partition(" ")[2]
    yield from (
        "",
        " ",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic =",
        f"Bearer {good}",
        f"Digest {good}",
    )
    yield from (good, f"Basic{good}", f"Basic {good}AAAA", f"Basic {good[:-4]}", f"Basic {good} x")
    yield from ("Basic " + "A" * 100_000, "Basic \xff\xfe", "Token x", "null", "Basic null")
    pairs = (
        *((USER, wrong) for wrong in ("", PASSWORD[:-1], PASSWORD + "x", PASSWORD.upper(), "*")),
        *((wrong, PASSWORD) for wrong in ("", USER[:-1], USER + "x", USER.upper(), "*", "\x00")),
        ("", ""), (PASSWORD, USER), (f"{USER}:", PASSWORD), (USER, f":{PASSWORD}"),
    )  # fmt: skip
    for user, password in pairs:
        yield "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def routes(app: Flask) -> list[tuple[str, str]]:
    """Every address and method that the app answers, with something in place of each variable."""
    found = [
        (method, re.sub(r"<(int:)?[^>]+>", lambda it: "1" if it[1] else "1-0123abcd.5", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods or ())
    ]
    assert len(found) > 20
    return found


def test_no_route_opens_without_the_right_login(locked: Flask, tried: Tried) -> None:
    client = locked.test_client()
    asked = 0
    for (method, path), login in itertools.product(routes(locked), wrong_logins()):
        for address in (path, path.rstrip("/") + "/", path + "?x=/health"):
            headers = {"Authorization": login} if login else {}
            answer = client.open(address, method=method, headers=headers, data=b"{}")
            if path in OPEN:
                assert answer.status_code == 200, (method, address, login[:40])
            else:
                assert answer.status_code == 401, (method, address, login[:40])
                assert b"model" not in answer.data
            asked += 1
    assert asked > 1500
    tried(asked)


def test_no_spelling_of_a_path_goes_around_the_login(locked: Flask) -> None:
    client = locked.test_client()
    for path in ("/setup", "/versions", "/metrics", "/job_status"):
        for spelled in (
            f"/health/..{path}", f"/health/../..{path}", f"/health%2f..{path}", f"/{path}",
            f"{path}/health", f"{path}%00/health", f"{path};/health", f"/health;{path}",
            f"{path}#/health", f"{path}%2e", path.upper(), f"http://x/health{path}",
            f"{path}//", f"/./{path}", f"/health//{path}",
        ):  # fmt: skip
            for method in ("GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH"):
                answer = client.open(spelled, method=method)
                assert answer.status_code in {401, 308}, (spelled, method)
                assert b"versions" not in answer.data.replace(b"/versions", b"")


def test_methods_that_claim_to_be_others_gain_nothing(locked: Flask) -> None:
    for name in ("X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"):
        answer = locked.test_client().get("/versions", headers={name: "/health"})
        assert answer.status_code == 401


def test_every_login_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch, tried: Tried
) -> None:
    """User and password both, whatever came and however long it is."""
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def noting(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return real(given, right)

    monkeypatch.setattr(security.hmac, "compare_digest", noting)
    for login in (RIGHT, *wrong_logins()):
        compared.clear()
        assert security.is_allowed(login, (USER, PASSWORD)) is (login == RIGHT)
        assert [right for _, right in compared] == [USER.encode(), PASSWORD.encode()], login[:40]
    tried(1 + len(list(wrong_logins())))


# Lines of the log --------------------------------------------------------------------------------


@pytest.fixture
def lines(settings: Settings) -> Iterator[io.StringIO]:
    """What the service's own logging writes."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging(settings.model_copy(update={"log_level": "DEBUG"}), "web")
    out = io.StringIO()
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)
    yield out
    root.handlers[:], root.level = before, level


@pytest.mark.parametrize("letter", BREAKS, ids=ascii)
def test_what_is_sent_never_writes_a_line_of_the_log(
    client: FlaskClient, store: ProjectStore, lines: io.StringIO, letter: str
) -> None:
    evil = f"x{letter}{FORGED}"
    store.path("project_settings.json").write_text(evil)
    for path in ("/setup", "/predict", "/webhook", "/train", "/job_status"):
        for body in ({"project": evil, "action": evil, "job": evil}, {evil: evil}, evil):
            client.post(path, json=body)
            client.post(f"{path}/{quote(evil)}", json=body)
            client.post(f"{path}?{quote(evil)}={quote(evil)}", data=json.dumps(body)[:-1])
    client.post("/train", json={}, base_url="http://x", headers={"X-Request-Id": quote(evil)})
    logging.getLogger("backend.app").warning("a class called %s", evil)
    written = lines.getvalue()
    assert "forged" in written
    assert len(written.splitlines()) == written.count("\n")
    for line in written.splitlines():
        assert LINE.match(line), line
        assert not line.startswith(FORGED)
        assert letter not in line


def test_a_traceback_stands_behind_bars(lines: io.StringIO) -> None:
    try:
        raise ValueError(f"found\n{FORGED}")
    except ValueError:
        logging.getLogger("backend.app").exception("one\ntwo")
    first, *others = lines.getvalue().splitlines()
    assert first.endswith("one\\ntwo")
    assert len(others) > 3
    assert all(line.startswith("  | ") for line in others)
    assert any(line == f"  | {FORGED}" for line in others)


def test_every_control_character_is_made_visible() -> None:
    odd = "".join(map(chr, range(0x110000)))
    shown = visible(odd)
    assert len(shown.splitlines()) == 1
    assert shown.encode()
    assert visible("Kätzchen → 猫 🐈") == "Kätzchen → 猫 🐈"
    assert isinstance(LineFormatter("%(message)s"), logging.Formatter)


@pytest.mark.parametrize(
    "host", ["x\r\nX-Evil: 1", "x y", "a" * 10_000, "[::1", "é", "x:99999999", ""]
)
def test_no_host_name_of_a_request_comes_back(app: Flask, host: str) -> None:
    client = app.test_client()
    for path in ("/setup//", "//versions", "/job_status//x", "/health", "/nothing"):
        answer = client.get(path, environ_overrides={"HTTP_HOST": host})
        assert answer.status_code < 500
        assert "X-Evil" not in answer.headers
        assert all("\n" not in value and "\r" not in value for value in answer.headers.values())


# Bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/train", "/job_status"])
def test_no_depth_of_nesting_is_more_than_a_bad_request(
    client: FlaskClient, store: ProjectStore, path: str, tried: Tried
) -> None:
    """Every depth around the interpreter's limit, in every field: never a RecursionError."""
    store.write(FILE, ProjectSettings())
    asked = 0
    for field, (opening, closing) in itertools.product(
        ("project", "extra_params", "action", "tasks", "job", "new"), (("[", "]"), ('{"a":', "}"))
    ):
        for depth in (*range(1, 1100, 11), *range(880, 1000), 5000, 100_000):
            nested = opening * depth + "1" + closing * depth
            others = (
                '"project": "1.1795231806",' if field != "project" else '"action":"START_TRAINING",'
            )
            answer = client.post(path, data=f'{{{others} "{field}": {nested}}}'.encode())
            assert answer.status_code in {200, 201, 400, 404, 413}, (field, depth)
            asked += 1
    assert asked > 2000
    tried(asked)


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/train", "/job_status"])
def test_bodies_over_the_limit_are_refused_with_and_without_a_length(
    client: FlaskClient, path: str
) -> None:
    body = b'{"x": "' + b"a" * (1 << 20) + b'"}'
    assert client.post(path, data=body).status_code == 413
    chunked = client.post(
        path,
        input_stream=io.BytesIO(body),
        environ_overrides={"wsgi.input_terminated": True},
        headers={"Transfer-Encoding": "chunked"},
    )
    assert chunked.status_code == 413
    lied = client.post(path, data=b"{}", environ_overrides={"CONTENT_LENGTH": "9" * 19})
    assert lied.status_code == 413


@pytest.mark.parametrize(
    "job",
    [
        "1" * 300 + "-0123abcd.5",
        "1-0123abcd." + "9" * 5000,
        "..%2f..",
        "%00",
        "%0a",
        "a" * 5000,
        "%ed%a0%80",
    ],
)
def test_a_job_is_never_a_path(client: FlaskClient, job: str) -> None:
    for answer in (client.get(f"/job_status/{job}"), client.get(f"/job_status?job={job}")):
        assert answer.status_code == 404


def test_half_a_surrogate_pair_is_text_like_any_other(
    client: FlaskClient, store: ProjectStore, jobs: Jobs
) -> None:
    store.write(FILE, ProjectSettings())
    store.path("label_config.sha256").write_text("0" * 64)
    half = "\ud800"
    for path in ("/setup", "/predict", "/webhook", "/train", "/job_status"):
        for body in (
            {"project": "1.1795231806", "extra_params": half, "label_config": half, "job": half},
            {"project": {"id": 1, "label_config": half}, "action": "PROJECT_UPDATED"},
            {
                "project": "1.1795231806",
                "extra_params": {half: half},
                "tasks": [{"data": {half: 1}}],
            },
        ):
            assert client.post(path, json=body).status_code < 500, (path, body)


def test_a_refusal_names_fields_only() -> None:
    with pytest.raises(Exception, match="project") as caught:
        parse(SetupRequest, b'{"project": "canary-in-a-body"}')
    assert "canary" not in str(caught.value)
