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

import base64
import logging
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qs, unquote, urljoin, urlsplit

import requests
import urllib3
from urllib3.exceptions import IncompleteRead

from backend.errors import LabelStudioUnavailable, MediaError, NoAnswer
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.guarded_http import (
    AddressRefused,
    AddressRule,
    GuardedHTTP,
    host_of,
    is_public,
)
from backend.labelstudio.host_patience import HostPatience
from backend.labelstudio.image_bytes import check_image, decode_data_uri
from backend.labelstudio.image_cache import ImageCache, image_key
from backend.labelstudio.transport import origin_of
from backend.settings import Settings

logger = logging.getLogger(__name__)

_CLOUD = ("s3", "gs", "azure-blob")
_FILE_PATH = re.compile(
    r"/(?:data/upload|data/local-files|storage-data|(?:tasks|projects)/\d+/(?:resolve|presign))/"
)
_NO_LETTER = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_CHUNK = 1 << 16
_MAX_REDIRECTS = 5
_FINAL = frozenset({400, 405, 406, 410, 414, 451})  # an answer that only another address changes


_PRESIGNED = (
    "; Label Studio sends us to its storage there: switch pre-signed URLs off in that storage's "
    "settings, then Label Studio hands the files out itself"
)
_LABEL_STUDIO_SAYS = {
    403: ("Label Studio does not let this token see the file", "whose token is it?"),
    404: ("Label Studio has no such file", "was the file deleted?"),
    500: ("Label Studio failed on the file", "an upload that is missing on its disk does that"),
    424: ("Label Studio could not get the file from its storage", "is it there, and the storage?"),
}
_COVERED_BY = (
    ("/data/local-files/", "does a Local Files storage of Label Studio cover it?"),
    ("fileuri=", "does a storage of Label Studio cover it?"),
)
_HINTS = {
    401: "it asks for a login",
    403: "is the file public, or has a signed address expired?",
    404: "was the file moved or deleted?",
    410: "the file is gone for good",
}


@dataclass(frozen=True)
class _Hop:
    """One request on the way to an image.

    Attributes:
        url: absolute.
        trusted: Label Studio itself sent us here, hop by hop from a path of its own.
        from_storage: where Label Studio says that its storage keeps the file.
    """

    url: str
    trusted: bool
    from_storage: bool = False


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
        self._patience = HostPatience(clock=clock)
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
            check_image(data, may_change=False)
            return data
        _check_letters(uri)
        first = self._first_hop(uri, task_id)  # also of what is cached: hosts may be taken back
        key = image_key(uri, project_key)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        data = self._patiently(uri, first)
        check_image(data)
        self._cache.put(key, data)
        return data

    def forget(self, uri: str, *, project_key: str) -> None:
        """Fetch this image anew next time: what came could not be decoded."""
        self._cache.forget(image_key(uri, project_key))

    def _patiently(self, uri: str, first: _Hop) -> bytes:
        """Download, unless the other side has been silent again and again."""
        party = _party(uri, first)
        if not self._patience.may_ask(party):
            raise MediaError(
                f"{party} did not answer several times in a row; it is asked again later",
                retryable=True,
            )
        try:
            data = self._download(first)
        except NoAnswer:
            self._patience.was_silent(party)
            raise
        except MediaError:
            self._patience.answered(party)
            raise
        self._patience.answered(party)
        return data

    def _first_hop(self, uri: str, task_id: int) -> _Hop:
        if uri.startswith("/") and not uri.startswith("//"):
            url = self._client.absolute(uri)
            if not self._is_file(url):
                raise MediaError(
                    "found a path that is no file of Label Studio, expected one below "
                    "/data/upload/ or /data/local-files/"
                )
            return _Hop(url, trusted=True)
        scheme = _well_formed(uri).scheme.lower()
        if scheme in _CLOUD:
            return _Hop(self._client.resolve_uri(task_id, uri), trusted=True)
        if scheme not in ("http", "https"):
            found = f"{scheme[:20]}:" if scheme else "no complete address"
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
            raise MediaError("addresses with a password in them are refused")
        host = host_of(hop.url)
        if not hop.trusted and origin_of(hop.url) != self._origin and host not in self._hosts:
            raise MediaError(
                f"images from host {host!r} are not allowed; add it to RAREFIRST_ALLOWED_HOSTS "
                "if they are meant to be"
            )

    def _download(self, hop: _Hop) -> bytes:
        end = self._clock() + self._deadline_s
        for _ in range(_MAX_REDIRECTS + 1):
            left_s = end - self._clock()
            if left_s <= 0:
                raise self._late(hop)
            with self._open(hop, left_s) as (status, location, response):
                if status in (301, 302, 303, 307, 308) and location:
                    hop = self._redirected(hop, location)
                    continue
                if status != 200:
                    raise _refusal(hop, status)
                return self._read(response, end, hop, decode=self._is_own(hop))
        raise MediaError(f"more than {_MAX_REDIRECTS} redirects", retryable=True)

    def _redirected(self, hop: _Hop, location: str) -> _Hop:
        """The next hop: a chain that left Label Studio is never trusted again.

        Where Label Studio itself redirects (to its storage), the host is its choice and needs no
        entry in our list; the address is checked all the same, and the token stays behind.
        """
        try:
            url = urljoin(hop.url, location)
        except ValueError as error:
            raise MediaError(f"{host_of(hop.url)} redirects to no address") from error
        _well_formed(url)
        following = _Hop(url, trusted=hop.trusted and self._is_file(url))
        from_label_studio = hop.trusted and origin_of(hop.url) == self._origin
        self._check_host(_Hop(url, trusted=True) if from_label_studio else following)
        storage = from_label_studio and not following.trusted
        return replace(following, from_storage=storage)

    @contextmanager
    def _open(
        self, hop: _Hop, left_s: float
    ) -> Iterator[tuple[int, str | None, urllib3.BaseHTTPResponse]]:
        """Send one request; everything that can go wrong with it is a MediaError."""
        what = host_of(hop.url)
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
            raise MediaError(f"{error}{_PRESIGNED if hop.from_storage else ''}") from error
        except LabelStudioUnavailable as error:
            # One slow file is that file's trouble; a Label Studio that is away is everybody's.
            if isinstance(error.__cause__, requests.ReadTimeout):
                raise NoAnswer(f"no answer in time from {what}") from error
            raise
        except urllib3.exceptions.LocationParseError as error:
            raise MediaError("not an address") from error
        except (urllib3.exceptions.TimeoutError, TimeoutError) as error:
            raise NoAnswer(f"no answer in time from {what}") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if any(isinstance(arg, IncompleteRead) for arg in (error, *error.args)):
                raise MediaError(
                    f"it came incomplete from {what}: the connection ended early", retryable=True
                ) from error
            raise NoAnswer(f"the connection to {what} broke ({type(error).__name__})") from error

    def _is_own(self, hop: _Hop) -> bool:
        return origin_of(hop.url) == self._origin

    def _read(
        self, response: urllib3.BaseHTTPResponse, end: float, hop: _Hop, *, decode: bool
    ) -> bytes:
        """Read piece by piece, within the limits of size and time.

        Only Label Studio's compression is undone: a few bytes can unpack to gigabytes at once.
        """
        packed = response.headers.get("Content-Encoding", "identity").lower()
        if not decode and packed != "identity":
            raise MediaError(
                f"{host_of(hop.url)} sends it compressed ({packed[:20]}), expected a plain image"
            )
        declared = response.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise self._too_large()
        pieces: list[bytes] = []
        size = 0
        # read1 returns what has arrived: read would wait for a slow server to fill the piece.
        while piece := response.read1(_CHUNK, decode_content=decode):
            pieces.append(piece)
            size += len(piece)
            if size > self._max_bytes:
                raise self._too_large()
            if self._clock() > end:
                raise self._late(hop)
        return b"".join(pieces)

    def _too_large(self) -> MediaError:
        return MediaError(
            f"the file has more than the {self._max_bytes} bytes that are taken; make it smaller "
            "or raise RAREFIRST_MAX_IMAGE_MB"
        )

    def _late(self, hop: _Hop) -> MediaError:
        return NoAnswer(f"not complete after {self._deadline_s:g} s from {host_of(hop.url)}")


def _refusal(hop: _Hop, status: int) -> MediaError:
    """What a status means. Most of them somebody may mend at the other end: those are retried."""
    if hop.trusted and status in _LABEL_STUDIO_SAYS:
        said, hint = _LABEL_STUDIO_SAYS[status]
        if status in (403, 404):
            for part, question in _COVERED_BY:
                if part in hop.url:
                    hint = question
                    break
        return MediaError(f"{said} ({status}); {hint}", retryable=True)
    hint = _HINTS.get(status, "")
    return MediaError(
        f"{host_of(hop.url)} answered {status}" + (f"; {hint}" if hint else ""),
        retryable=status not in _FINAL,
    )


def _check_letters(uri: str) -> None:
    """Refuse what the libraries on the way read differently, or fail on.

    One drops a tab from a host, another refuses it; and half a surrogate pair, which JSON can
    hold, cannot be sent at all.
    """
    if _NO_LETTER.search(uri):
        raise MediaError(
            "the address holds a control character or half of a surrogate pair, expected text; "
            "write it into the task's data again"
        )


def _well_formed(url: str) -> SplitResult:
    """The parts of a URL whose host and port can be read."""
    try:
        parts = urlsplit(url)
        if parts.port == 0:
            raise ValueError("port 0")
    except ValueError as error:
        raise MediaError("not an address; expected http(s)://host/path") from error
    return parts


def _party(uri: str, first: _Hop) -> str:
    """Who is waited for: a host, a bucket behind Label Studio, or Label Studio's own files."""
    parts = urlsplit(_cloud_uri(uri) or uri)
    if parts.scheme.lower() in _CLOUD:
        return f"{parts.scheme.lower()}://{parts.netloc}"
    return "Label Studio" if first.trusted else host_of(first.url)


def _cloud_uri(uri: str) -> str:
    """What a ``/tasks/N/resolve/`` address stands for: Label Studio gives those out, too."""
    parts = urlsplit(uri)
    encoded = parse_qs(parts.query).get("fileuri", [""])[0]
    if "/resolve/" not in parts.path and "/presign/" not in parts.path:
        return ""
    try:
        return base64.urlsafe_b64decode(encoded).decode()
    except ValueError:
        return ""


def safe_name(uri: str) -> str:
    """An address that people may see: without query (signatures), password or great length."""
    try:
        uri = _cloud_uri(uri) or uri
        parts = urlsplit(uri.strip())
    except ValueError:
        return "the address"
    if parts.scheme.lower() == "data":
        return uri.strip().partition(",")[0][:60]
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.scheme else ""
    query = "?" + parts.query if parts.path.endswith("/data/local-files/") else ""
    text = host + parts.path + query
    return text if len(text) <= 120 else f"{text[:60]}...{text[-57:]}"
