"""A proxy in front of a server that can hold a request still, or spoil what passes.

Kill tests need to know where the worker is. The worker talks to Label Studio through this proxy;
a rule picks the request that marks the moment (say, the import of scores) and holds it either
before Label Studio sees it or after it has answered, until it is let go. Fault tests put a spoiler
in its way (tests/faults/border.py), which answers some requests in its own way.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import requests

Moment = Literal["before", "after"]
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-encoding", "content-length", "host"}


@dataclass
class Stall:
    """One rule: the n-th request that matches is held."""

    matches: Callable[[str, str], bool]
    moment: Moment
    nth: int = 1
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    seen: int = 0


@dataclass
class Exchange:
    """One request on its way, for a spoiler to pass on and to answer.

    Attributes:
        method, path: of the request, the query included.
        body: what was sent.
    """

    method: str
    path: str
    body: bytes
    handler: BaseHTTPRequestHandler
    target: str

    def ask(self) -> requests.Response:
        """Pass the request on and wait for the answer."""
        headers = {k: v for k, v in self.handler.headers.items() if k.lower() not in _HOP_BY_HOP}
        return requests.request(
            self.method,
            self.target + self.path,
            data=self.body,
            headers=headers,
            allow_redirects=False,
            timeout=120,
        )

    def answer(
        self,
        status: int,
        content: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        promised: int | None = None,
    ) -> None:
        """Answer the one who asked; ``promised`` bytes are announced, and fewer may come."""
        handler = self.handler
        try:
            handler.send_response(status)
            for name, value in (headers or {}).items():
                if name.lower() not in _HOP_BY_HOP:
                    handler.send_header(name, value)
            handler.send_header("Content-Length", str(promised or len(content)))
            handler.end_headers()
            handler.wfile.write(content)
        except OSError:
            handler.close_connection = True  # the worker was killed: nobody reads the answer
        if promised is not None:
            handler.close_connection = True

    def reset(self) -> None:
        """Tear the connection down as a crashed machine does: the other end sees a reset."""
        connection = self.handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handler.close_connection = True
        os.close(connection.detach())  # the handler would end it politely


Spoiler = Callable[[Exchange], bool]


class StallProxy:
    """Forwards everything to ``target``; hold a request with `stall`.

    Attributes:
        refusing: every connection is closed without an answer.
        spoiler: asked for every request; True where it answered it itself.
        paths: method and path of what was forwarded.
    """

    def __init__(self, target: str) -> None:
        self.target = target.rstrip("/")
        self._rule: Stall | None = None
        self._lock = threading.Lock()
        self.refusing = False
        self.spoiler: Spoiler | None = None
        self.paths: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                """The tests say enough."""

            def handle_any(self) -> None:
                proxy.forward(self)

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the worker finds Label Studio."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def stall(self, matches: Callable[[str, str], bool], moment: Moment, *, nth: int = 1) -> Stall:
        """Hold the n-th request for which ``matches(method, path)``."""
        rule = Stall(matches, moment, nth)
        with self._lock:
            self._rule = rule
        return rule

    def close(self) -> None:
        """Let everything go and end."""
        with self._lock:
            rule, self._rule = self._rule, None
        if rule is not None:
            rule.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _held(self, method: str, path: str) -> Stall | None:
        with self._lock:
            rule = self._rule
            if rule is None or rule.reached.is_set() or not rule.matches(method, path):
                return None
            rule.seen += 1
            return rule if rule.seen == rule.nth else None

    def forward(self, handler: BaseHTTPRequestHandler) -> None:
        """Pass one request on and its answer back."""
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        if self.refusing:
            handler.close_connection = True
            return
        self.paths.append(f"{handler.command} {handler.path.split('?')[0]}")
        exchange = Exchange(handler.command, handler.path, body, handler, self.target)
        spoiler = self.spoiler
        if spoiler is not None and spoiler(exchange):
            return
        rule = self._held(handler.command, handler.path)
        if rule is not None and rule.moment == "before":
            self._hold(rule)
        try:
            answer = exchange.ask()
        except requests.RequestException as error:  # who is behind us was killed
            exchange.answer(502, type(error).__name__.encode())
            return
        if rule is not None and rule.moment == "after":
            self._hold(rule)
        exchange.answer(answer.status_code, answer.content, answer.headers)

    @staticmethod
    def _hold(rule: Stall) -> None:
        rule.reached.set()
        rule.released.wait(120)
