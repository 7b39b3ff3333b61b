from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.errors import (
    AddressBlocked,
    LabelStudioRefused,
    LabelStudioUnavailable,
    MissingConfiguration,
    NotFound,
    Unauthorized,
)
from backend.labelstudio.transport import Transport, origin_of
from tests.unit.backend.labelstudio.conftest import TOKEN, Serve
from tests.unit.backend.labelstudio.local_http import Answer, Request
from tests.unit.backend.labelstudio.test_auth import web_token


def always(answer: Answer) -> Callable[[Request], Answer]:
    return lambda request: answer


def test_what_is_missing_is_named() -> None:
    with pytest.raises(MissingConfiguration, match="LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY"):
        Transport("", "")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"detail": "Validation error", "validation_errors": {"x": ["bad"]}}, "x: .'bad'."),
        (401, {"detail": "Invalid token."}, "no user has this token"),
        (401, {"detail": "legacy token authentication has been disabled"}, "switched off"),
        (404, {"detail": "Not found."}, "Not found"),
        (429, {"detail": "slow down"}, "429"),
        (503, b"<html>busy</html>", "503"),
        (302, b"", "redirects to"),
        (200, b"<html>hello</html>", "expected JSON"),
    ],
)
def test_what_label_studio_answers_becomes_an_error_that_says_so(
    serve: Serve, status: int, body: object, expected: str
) -> None:
    server = serve(always(Answer(status, body, {"Location": "https://elsewhere.test/x"})))
    kinds: dict[int, type[Exception]] = {
        400: LabelStudioRefused,
        401: Unauthorized,
        404: NotFound,
    }
    with pytest.raises(kinds.get(status, LabelStudioUnavailable), match=expected) as caught:
        Transport(server.url, TOKEN).json("GET", "/api/version")
    assert TOKEN not in str(caught.value)
    if isinstance(caught.value, LabelStudioRefused):
        assert caught.value.status == status


def test_a_blocked_address_is_its_own_error(serve: Serve) -> None:
    detail = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
    server = serve(always(Answer(403, {"detail": detail})))
    with pytest.raises(AddressBlocked):
        Transport(server.url, TOKEN).json("POST", "/api/ml/", body={})


def test_refused_and_unresolvable_and_silent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(LabelStudioUnavailable, match="is it running"):
        Transport(url, TOKEN).json("GET", "/")
    with pytest.raises(LabelStudioUnavailable, match="cannot be resolved"):
        Transport("http://label-studio.invalid", TOKEN).json("GET", "/")


def test_an_address_that_speaks_no_tls(serve: Serve) -> None:
    url = serve(always(Answer(200, {}))).url.replace("http://", "https://")
    with pytest.raises(LabelStudioUnavailable, match="its TLS is not accepted"):
        Transport(url, TOKEN).json("GET", "/")


def test_half_an_answer_is_told_from_another_server(serve: Serve) -> None:
    kind = {"Content-Type": "application/json"}
    server = serve(always(Answer(200, b'{"release": "1.2', kind)))
    with pytest.raises(LabelStudioUnavailable, match=r"ends in the middle.*16 bytes"):
        Transport(server.url, TOKEN).json("GET", "/api/version")


def test_an_answer_that_is_cut_off_is_asked_for_once_more(serve: Serve) -> None:
    chunks = [iter([b'{"release": ']), iter([b'{"release": "1.2"}'])]

    def reply(request: Request) -> Answer:
        first = len(server.requests) == 1
        promised = {"Content-Length": "18", "Content-Type": "application/json"}
        return Answer(200, None, promised, chunks=chunks[0] if first else chunks[1], close=True)

    server = serve(reply)
    assert Transport(server.url, TOKEN).json("GET", "/api/version") == {"release": "1.2"}
    chunks[:] = [iter([b"{"]), iter([b"{"])]
    server.requests.clear()
    with pytest.raises(LabelStudioUnavailable, match="the connection broke"):
        Transport(server.url, TOKEN).json("GET", "/api/version")
    server.requests.clear()
    chunks[:] = [iter([b"{"]), iter([b"{"])]
    with pytest.raises(LabelStudioUnavailable, match="the connection broke"):
        Transport(server.url, TOKEN).json("PATCH", "/api/version", body={})
    assert len(server.requests) == 1, "what may have been done is not asked for twice"


def test_a_slow_answer_is_given_up(serve: Serve) -> None:
    def slow(request: Request) -> Answer:
        time.sleep(0.5)
        return Answer(200, {})

    server = serve(slow)
    with pytest.raises(LabelStudioUnavailable, match=r"within 0\.1 s"):
        Transport(server.url, TOKEN, timeout_s=0.1).json("GET", "/")
    assert len(server.requests) == 1


def test_a_kept_connection_that_died_is_replaced_for_a_get(serve: Serve) -> None:
    def dies(request: Request) -> Answer:
        # Announces keep-alive, then closes: the next request on it meets a dead socket.
        return Answer(200, {"n": 1}, close=True)

    transport = Transport(serve(dies).url, TOKEN)
    assert [transport.json("GET", "/") for _ in range(3)] == [{"n": 1}] * 3


def test_the_token_is_sent_and_no_netrc_replaces_it(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server = serve(always(Answer(200, {})))
    Transport(server.url, TOKEN).json("GET", "/api/version")
    assert server.requests[0].headers["authorization"] == f"Token {TOKEN}"


def test_a_personal_token_is_exchanged_and_renewed_after_one_401(serve: Serve) -> None:
    valid = "access-1"
    bought = 0

    def reply(request: Request) -> Answer:
        nonlocal bought
        if request.path == "/api/token/refresh/":
            assert "authorization" not in request.headers
            bought += 1
            return Answer(200, {"access": f"access-{bought}"})
        if request.headers["authorization"] != f"Bearer {valid}":
            return Answer(401, {"detail": "Token is expired"})
        return Answer(200, {"ok": True})

    transport = Transport(serve(reply).url, web_token("refresh"))
    assert transport.json("GET", "/x") == {"ok": True}
    valid = "access-2"
    assert transport.json("GET", "/x") == {"ok": True}
    valid = "never"
    with pytest.raises(Unauthorized, match="personal access token has expired"):
        transport.json("GET", "/x")
    assert bought == 3


def test_a_dead_personal_token(serve: Serve) -> None:
    server = serve(always(Answer(401, {"detail": "Token is invalid or expired"})))
    with pytest.raises(Unauthorized, match="Make a new one"):
        Transport(server.url, web_token("refresh")).json("GET", "/x")
    assert [request.path for request in server.requests] == ["/api/token/refresh/"]


def test_trouble_while_exchanging_is_not_a_dead_token(serve: Serve) -> None:
    server = serve(always(Answer(502, b"")))
    with pytest.raises(LabelStudioUnavailable):
        Transport(server.url, web_token("refresh")).json("GET", "/x")


def test_threads_share_a_transport(serve: Serve) -> None:
    server = serve(lambda request: Answer(200, {"path": request.path}))
    transport = Transport(server.url, TOKEN)
    paths = [f"/{n}" for n in range(40)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda path: transport.json("GET", path), paths))
    assert answers == [{"path": path} for path in paths]


def test_the_token_stays_on_label_studios_origin(serve: Serve) -> None:
    transport = Transport("http://127.0.0.1:1", TOKEN)
    with pytest.raises(ValueError, match="the token is for"):
        transport.stream("http://127.0.0.1:2/x", timeout_s=1, connect_s=1)


def test_origins_and_paths() -> None:
    assert origin_of("HTTP://Host.Example./x") == "http://host.example:80"
    assert origin_of("https://h:8443") == "https://h:8443"
    assert origin_of("http://[::1]:80/") == "http://[::1]:80"
    below = Transport("https://host/ls/", TOKEN)
    assert below.absolute("/data/upload/1/a.png") == "https://host/ls/data/upload/1/a.png"
    assert below.absolute("/ls/data/upload/1/a.png") == "https://host:443/ls/data/upload/1/a.png"
