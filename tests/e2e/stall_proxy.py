"""A proxy in front of Label Studio that can hold a request still at a chosen moment.

Kill tests need to know where the worker is. The worker talks to Label Studio through this proxy;
a rule picks the request that marks the moment (say, the import of scores) and holds it either
before Label Studio sees it or after it has answered, until it is let go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
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


class StallProxy:
    """Forwards everything to ``target``; hold a request with `stall`."""

    def __init__(self, target: str) -> None:
        self.target = target.rstrip("/")
        self._rule: Stall | None = None
        self._lock = threading.Lock()
        self.refusing = False
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
        rule = self._held(handler.command, handler.path)
        if rule is not None and rule.moment == "before":
            self._hold(rule)
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in _HOP_BY_HOP}
        answer = requests.request(
            handler.command,
            self.target + handler.path,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=120,
        )
        if rule is not None and rule.moment == "after":
            self._hold(rule)
        try:
            handler.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(answer.content)))
            handler.end_headers()
            handler.wfile.write(answer.content)
        except OSError:
            handler.close_connection = True  # the worker was killed: nobody reads the answer

    @staticmethod
    def _hold(rule: Stall) -> None:
        rule.reached.set()
        rule.released.wait(120)
