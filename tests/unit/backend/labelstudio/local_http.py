"""Small real HTTP servers on 127.0.0.1: fakes at the border, nothing faked inside."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: object


@dataclass
class Answer:
    status: int = 200
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    chunks: Iterator[bytes] | None = None
    close: bool = False
    header_drip_s: float = 0.0

    def raw(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


Reply = Callable[[Request], Answer]


class _Quiet(ThreadingHTTPServer):
    """Says nothing of clients that hang up, which is what some tests are about."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Server:
    """Answers with a function and remembers what it was asked."""

    def __init__(self, reply: Reply, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def _any(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length", 0))
                raw = self.rfile.read(length)
                request = Request(
                    self.command,
                    parts.path,
                    {name: values[0] for name, values in parse_qs(parts.query).items()},
                    {name.lower(): value for name, value in self.headers.items()},
                    json.loads(raw) if raw else None,
                )
                outer.requests.append(request)
                answer = reply(request)
                with contextlib.suppress(ConnectionError):
                    self._send(answer)

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                headers = dict(answer.headers)
                if answer.chunks is None:
                    headers.setdefault("Content-Length", str(len(answer.raw())))
                else:
                    headers["Connection"] = "close"
                    self.close_connection = True
                for name, value in headers.items():
                    self.send_header(name, value)
                for number in range(100 if answer.header_drip_s else 0):
                    self.send_header(f"X-{number}", "drip")
                    self.flush_headers()
                    time.sleep(answer.header_drip_s)
                self.end_headers()
                for chunk in answer.chunks if answer.chunks is not None else (answer.raw(),):
                    self.wfile.write(chunk)
                    self.wfile.flush()
                self.close_connection |= answer.close

            do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 -- http.server's names

            def log_message(self, format: str, *args: object) -> None:
                return

        self._httpd = _Quiet((host, 0), Handler)
        self._httpd.daemon_threads = True
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.02,))
        self._thread.start()
        self.port = int(self._httpd.server_address[1])
        self.url = f"http://{host}:{self.port}"

    def close(self) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()
