"""Fetching the image of a task, from wherever its address points.

    /data/upload/, /data/local-files/, /tasks/N/resolve/   Label Studio, with the token
    s3://, gs://, azure-blob://                            through Label Studio's own storage
    http(s)://                                             Label Studio's origin, or a host that
                                                           the settings allow
    data:                                                  decoded

Addresses come from task data, which anybody who may import tasks writes. So: the token goes to
file paths on Label Studio's own origin and nowhere else; private addresses are refused on every
hop, Label Studio's own origin excepted; redirects are followed by hand and judged anew; size and
time are limited; what is not an image is refused and never cached.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests
import urllib3

from backend.errors import LabelStudioUnavailable, MediaError
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.guarded_http import (
    AddressRefused,
    AddressRule,
    GuardedHTTP,
    host_of,
    is_public,
)
from backend.labelstudio.image_bytes import check_image, decode_data_uri
from backend.labelstudio.image_cache import ImageCache
from backend.labelstudio.transport import origin_of
from backend.settings import Settings

logger = logging.getLogger(__name__)

_CLOUD = ("s3", "gs", "azure-blob")
_FILE_PATH = re.compile(
    r"/(?:data/upload|data/local-files|storage-data|(?:tasks|projects)/\d+/(?:resolve|presign))/"
)
_CHUNK = 1 << 16
_MAX_REDIRECTS = 5
_RETRYABLE = frozenset({408, 425, 429})


@dataclass(frozen=True)
class _Hop:
    """One request on the way to an image.

    Attributes:
        url: absolute.
        trusted: Label Studio itself sent us here, hop by hop from a path of its own.
    """

    url: str
    trusted: bool


class MediaFetcher:
    """Gets image files, cached on disk; safe to share between threads.

    Args:
        client: Label Studio.
        allowed_hosts: hosts besides Label Studio that images may come from.
        cache_dir: folder of the cache, which other processes may share.
        cache_bytes: its size; 0 for no cache.
        max_bytes: largest file taken.
        timeout_s: seconds without a byte; a connection must be there in half of that.
        deadline_s: seconds for one image in all; by default three times ``timeout_s``.
        address_allowed: whether an IP address may be connected to.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        client: LabelStudioClient,
        *,
        allowed_hosts: Collection[str],
        cache_dir: Path,
        cache_bytes: int,
        max_bytes: int,
        timeout_s: float = 10.0,
        deadline_s: float | None = None,
        address_allowed: AddressRule = is_public,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._origin = client.origin
        self._hosts = frozenset(host.lower().rstrip(".") for host in allowed_hosts)
        self._cache = ImageCache(cache_dir, max_bytes=cache_bytes)
        self._max_bytes = max_bytes
        self._read_s = timeout_s
        self._connect_s = max(timeout_s / 2, 0.1)
        self._deadline_s = 3 * timeout_s if deadline_s is None else deadline_s
        self._clock = clock
        waits = {"connect_s": self._connect_s, "read_s": self._read_s}
        self._foreign = GuardedHTTP(address_allowed, **waits)
        # Label Studio's own origin is the one exemption: it usually lives on a private address.
        self._own = GuardedHTTP(lambda address: True, **waits)

    @classmethod
    def from_settings(cls, client: LabelStudioClient, settings: Settings) -> Self:
        """A fetcher with the service's settings; its cache lies in the data directory."""
        mib = 1 << 20
        return cls(
            client,
            allowed_hosts=settings.allowed_hosts,
            cache_dir=settings.data_dir / "images",
            cache_bytes=settings.image_cache_mb * mib,
            max_bytes=settings.max_image_mb * mib,
            timeout_s=settings.fetch_timeout_s,
        )

    def fetch(self, uri: str, *, task_id: int, project_key: str) -> bytes:
        """The image file at an address found in a task.

        Args:
            uri: as it stands in ``task.data``.
            task_id: the task, through which Label Studio resolves cloud addresses.
            project_key: keeps the caches of projects apart.

        Raises:
            MediaError: this image cannot be had; ``retryable`` says whether later.
            LabelStudioUnavailable: Label Studio itself cannot be reached.
            Unauthorized: Label Studio does not accept our token.
        """
        uri = uri.strip()
        if not uri:
            raise MediaError("the task has no image address")
        if uri[:5].lower() == "data:":
            data = decode_data_uri(uri, max_bytes=self._max_bytes)
            check_image(data, what="the data URI")
            return data
        first = self._first_hop(uri, task_id)  # also of what is cached: hosts may be taken back
        key = f"{project_key}\n{uri}"
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        data = self._download(first)
        check_image(data, what=_name(uri))
        self._cache.put(key, data)
        return data

    def _first_hop(self, uri: str, task_id: int) -> _Hop:
        if uri.startswith("/") and not uri.startswith("//"):
            url = self._client.absolute(uri)
            if not self._is_file(url):
                raise MediaError(
                    f"{_name(uri)}: expected a path below /data/upload/ or /data/local-files/"
                )
            return _Hop(url, trusted=True)
        scheme = _well_formed(uri).scheme.lower()
        if scheme in _CLOUD:
            return _Hop(self._client.resolve_uri(task_id, uri), trusted=True)
        if scheme not in ("http", "https"):
            found = f"{scheme}://" if scheme else _name(uri)
            raise MediaError(
                f"found {found}, expected /data/upload/, /data/local-files/, http(s)://, s3://, "
                "gs://, azure-blob:// or data:"
            )
        hop = _Hop(uri, trusted=self._is_file(uri))
        self._check_host(hop)
        return hop

    def _is_file(self, url: str) -> bool:
        """Whether a URL is a file path of Label Studio, where the token may go."""
        if origin_of(url) != self._origin or urlsplit(url).username is not None:
            return False
        prefix = urlsplit(self._client.base_url).path
        path = unquote(urlsplit(url).path).removeprefix(prefix)
        return ".." not in path and "\\" not in path and _FILE_PATH.match(path) is not None

    def _check_host(self, hop: _Hop) -> None:
        parts = _well_formed(hop.url)
        if parts.scheme.lower() not in ("http", "https"):
            raise MediaError(f"redirected to {parts.scheme}://, expected http(s)://")
        if parts.username is not None or parts.password is not None:
            raise MediaError(f"{_name(hop.url)}: addresses with a password in them are refused")
        host = host_of(hop.url)
        if not hop.trusted and origin_of(hop.url) != self._origin and host not in self._hosts:
            raise MediaError(
                f"images from host {host!r} are not allowed; add it to RAREFIRST_ALLOWED_HOSTS "
                "if they are meant to be"
            )

    def _download(self, hop: _Hop) -> bytes:
        end = self._clock() + self._deadline_s
        start = hop
        for _ in range(_MAX_REDIRECTS + 1):
            left_s = end - self._clock()
            if left_s <= 0:
                raise self._late(start)
            with self._open(hop, left_s) as (status, location, response):
                if status in (301, 302, 303, 307, 308) and location:
                    hop = self._redirected(hop, location)
                    continue
                if status != 200:
                    raise self._refusal(start, status)
                return self._read(response, end, start, decode=self._is_own(hop))
        raise MediaError(f"{_name(start.url)}: more than {_MAX_REDIRECTS} redirects")

    def _redirected(self, hop: _Hop, location: str) -> _Hop:
        """The next hop: a chain that left Label Studio is never trusted again.

        Where Label Studio itself redirects (to its storage), the host is its choice and needs no
        entry in our list; the address is checked all the same, and the token stays behind.
        """
        try:
            url = urljoin(hop.url, location)
        except ValueError as error:
            raise MediaError(f"{_name(hop.url)}: redirected to no address") from error
        _well_formed(url)
        following = _Hop(url, trusted=hop.trusted and self._is_file(url))
        from_label_studio = hop.trusted and origin_of(hop.url) == self._origin
        self._check_host(_Hop(url, trusted=True) if from_label_studio else following)
        return following

    @contextmanager
    def _open(
        self, hop: _Hop, left_s: float
    ) -> Iterator[tuple[int, str | None, urllib3.BaseHTTPResponse]]:
        """Send one request; everything that can go wrong with it is a MediaError."""
        what = _name(hop.url)
        try:
            if hop.trusted:
                with self._client.download(
                    hop.url, timeout_s=self._read_s, connect_s=self._connect_s
                ) as answer:
                    yield answer.status_code, answer.headers.get("Location"), answer.raw
                return
            http = self._own if self._is_own(hop) else self._foreign
            with http.opened(hop.url, within_s=left_s) as response:
                yield response.status, response.headers.get("Location"), response
        except AddressRefused as error:
            raise MediaError(f"{what}: {error}") from error
        except LabelStudioUnavailable as error:
            # One slow file is that file's trouble; a Label Studio that is away is everybody's.
            if isinstance(error.__cause__, requests.ReadTimeout):
                raise MediaError(f"{what}: no answer in time", retryable=True) from error
            raise
        except urllib3.exceptions.LocationParseError as error:
            raise MediaError(f"{what}: not an address") from error
        except (urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise MediaError(f"{what}: no answer in time", retryable=True) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise MediaError(
                f"{what}: the connection broke ({type(error).__name__})", retryable=True
            ) from error

    def _is_own(self, hop: _Hop) -> bool:
        return origin_of(hop.url) == self._origin

    def _read(
        self, response: urllib3.BaseHTTPResponse, end: float, start: _Hop, *, decode: bool
    ) -> bytes:
        """Read piece by piece, within the limits of size and time.

        Only Label Studio's compression is undone: a few bytes can unpack to gigabytes at once.
        """
        what = _name(start.url)
        packed = response.headers.get("Content-Encoding", "identity").lower()
        if not decode and packed != "identity":
            raise MediaError(f"{what} comes compressed ({packed[:20]}), expected a plain image")
        declared = response.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise MediaError(f"{what} has {declared} bytes, at most {self._max_bytes} are taken")
        pieces: list[bytes] = []
        size = 0
        # read1 returns what has arrived: read would wait for a slow server to fill the piece.
        while piece := response.read1(_CHUNK, decode_content=decode):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise MediaError(f"{what} is larger than the {self._max_bytes} bytes taken")
            if self._clock() > end:
                raise self._late(start)
        return b"".join(pieces)

    def _late(self, start: _Hop) -> MediaError:
        return MediaError(
            f"{_name(start.url)} was not complete after {self._deadline_s:g} s", retryable=True
        )

    def _refusal(self, start: _Hop, status: int) -> MediaError:
        what = _name(start.url)
        if start.trusted and status == 404:
            if "/data/local-files/" in start.url:
                hint = "does a Local Files storage of Label Studio cover it?"
            elif "fileuri=" in start.url:
                hint = "does a storage of Label Studio cover it?"
            else:
                hint = "was the file deleted?"
            return MediaError(f"{what}: Label Studio has no such file (404); {hint}")
        retryable = status >= 500 or status in _RETRYABLE
        return MediaError(f"{what}: the server answered {status}", retryable=retryable)


def _well_formed(url: str) -> SplitResult:
    """The parts of a URL whose host and port can be read."""
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError("port 0")
    except ValueError as error:
        raise MediaError(f"{_name(url)}: not an address ({error})") from error
    return parts


def _name(uri: str) -> str:
    """An address that may be logged: without query (signatures), password or great length."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "the address"
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.scheme else ""
    text = host + parts.path
    return text if len(text) <= 120 else f"{text[:60]}...{text[-57:]}"
