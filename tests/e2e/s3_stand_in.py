"""A small stand-in of S3: enough for Label Studio's import storage. Signatures are not checked."""

from __future__ import annotations

import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

_LISTING = """<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{bucket}</Name>
<Prefix></Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>
{entries}</ListBucketResult>"""
_ENTRY = """<Contents><Key>{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified>
<ETag>&quot;0&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"""


class S3StandIn:
    """Buckets in memory at ``url``.

    Attributes:
        buckets: bucket -> key -> bytes.
        locked: keys that are answered with 403.
        asked: how often each key was fetched.
    """

    def __init__(self, buckets: dict[str, dict[str, bytes]]) -> None:
        self.buckets = buckets
        self.locked: set[str] = set()
        self.asked: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
                found = outer.buckets.get(bucket)
                if found is None:
                    self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
                elif not key:
                    self._answer(200, _listing(bucket, found))
                else:
                    outer.asked[key] += self.command == "GET"
                    if key in outer.locked:
                        self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
                    elif key not in found:
                        self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                    else:
                        self._answer(200, found[key])

            do_HEAD = do_GET  # noqa: N815 -- http.server's name

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Content-Type", "binary/octet-stream")
                self.send_header("ETag", '"0"')
                self.send_header("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._httpd.server_address[1]}"

    def close(self) -> None:
        """Stop it."""
        self._httpd.shutdown()
        self._httpd.server_close()
        self._thread.join()


def _listing(bucket: str, files: dict[str, bytes]) -> bytes:
    entries = "".join(
        _ENTRY.format(key=escape(key), size=len(data)) for key, data in sorted(files.items())
    )
    return _LISTING.format(bucket=bucket, count=len(files), entries=entries).encode()
