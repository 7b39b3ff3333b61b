"""Raw bytes on the port of a real web process: what Flask's test client cannot send."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.security.conftest import ROOT, Tried

FORGED = "2026-01-01 00:00:00,000 web ERROR backend.app: forged"
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} web |\[\d{4}-\d\d-\d\d |  \| )")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Port and log of a web process with a password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "RAREFIRST_DATA_DIR": str(tmp_path / "data"),
        "RAREFIRST_HOST": "127.0.0.1",
        "PORT": str(port),
        "LOG_LEVEL": "DEBUG",
        "BASIC_AUTH_USER": "label",
        "BASIC_AUTH_PASS": "canary-passw0rd",
        "RAREFIRST_MAX_BODY_MB": "1",
    }
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "-c", "python:backend.gunicorn_conf",
             "backend.wsgi:app"],
            cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        for _ in range(600):
            if answer(port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"):
                break
            time.sleep(0.1)
        yield port, log
    finally:
        process.terminate()
        process.wait(20)


def answer(port: int, sent: bytes) -> bytes:
    """Everything that comes back until the other side closes, or two seconds pass."""
    got = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                got += piece
    except OSError:
        pass
    return got


def test_raw_requests_get_a_refusal_and_write_no_line(web: tuple[int, Path], tried: Tried) -> None:
    port, log = web
    evil = FORGED.encode()
    get = b"GET /versions HTTP/1.1\r\nHost: x\r\n"
    hidden = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    length = b"POST /setup HTTP/1.1\r\nHost: x\r\nContent-Length: "
    chunked = b"POST /setup HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    requests = [
        b"GET /a\n" + evil + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a\r" + evil + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%0a" + evil.replace(b" ", b"%20") + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\n" + evil + b"\r\n\r\n",
        b"G\x00T / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50),
        get + b"X: a\n" + evil + b"\r\n\r\n",
        get + b"X : a\r\n\r\n",
        get + b" folded\r\n\r\n",
        get + b"\xff\xfe: \x80\r\n\r\n",
        get + b"Authorization: Basic " + b"A" * 20_000 + b"\r\n\r\n",
        get + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        length + b"-1\r\n\r\n",
        length + b"9" * 5000 + b"\r\n\r\n",
        length + b"1e3\r\n\r\n{}",
        length + b"2, 2\r\n\r\n{}",
        length + b"2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + hidden,
        length + b"2\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + hidden,
        length + b"2\r\nContent-Length: 50\r\n\r\n{}" + hidden,
        chunked + b"FFFFFFFFFFFFFFFFFF\r\n{}",
        chunked + b"-2\r\n{}\r\n0\r\n\r\n",
        chunked + b"zz\n" + evil,
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n" + get + b"\r\n",
    ]  # fmt: skip
    for sent in requests:
        got = answer(port, sent)
        # 501 and 505 are refusals: of a transfer coding, and of HTTP/9.9.
        assert not re.search(rb"HTTP/1\.[01] (2\d\d|50[0234])", got), (sent[:200], got[:300])
        assert b"canary" not in got
    tried(len(requests))
    fine = answer(port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"200 OK" in fine
    written = log.read_bytes().decode(errors="replace")
    assert "canary" not in written
    for line in written.splitlines():
        assert LINE.match(line), line
        assert not line.startswith(FORGED), line
