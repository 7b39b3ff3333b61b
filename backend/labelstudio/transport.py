"""One HTTP request to Label Studio: token, time-outs, and its refusals as our errors.

Bodies and tokens are never logged: payloads of Label Studio carry secrets.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from backend.errors import (
    AddressBlocked,
    AddressUnusable,
    LabelStudioRefused,
    LabelStudioUnavailable,
    MissingConfiguration,
    NotFound,
    Unauthorized,
)
from backend.labelstudio.auth import PERSONAL_DEAD, TokenAuth

logger = logging.getLogger(__name__)

Method = Literal["GET", "POST", "PATCH", "DELETE"]
Params = Mapping[str, str | int]

_CONNECT_S = 5.0
_SAID = 300  # characters of Label Studio's own words in our messages
_REFUSED = "connection refused"
_UNKNOWN_NAME = "its name cannot be resolved"


class Transport:
    """Sends requests to one Label Studio; safe to share between threads.

    Args:
        base_url: Label Studio's address.
        api_key: legacy token or personal access token.
        timeout_s: seconds without a byte before a request is given up.
        session: used instead of a session for each thread; then only one thread may call.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_s: float = 30.0,
        session: requests.Session | None = None,
    ) -> None:
        missing = [
            name
            for name, value in (("LABEL_STUDIO_URL", base_url), ("LABEL_STUDIO_API_KEY", api_key))
            if not value.strip()
        ]
        if missing:
            raise MissingConfiguration(missing)
        self.base_url = base_url.strip().rstrip("/")
        self.origin = origin_of(self.base_url)
        self.timeout_s = timeout_s
        self._given = session
        self._local = threading.local()
        self._auth = TokenAuth(api_key, exchange=self._exchange)

    def json(
        self,
        method: Method,
        path: str,
        *,
        params: Params | None = None,
        body: object = None,
        timeout_s: float | None = None,
    ) -> object:
        """Send a request and read its JSON answer; None where the answer is empty.

        Raises:
            LabelStudioUnavailable: not reachable, too slow, in trouble, or not Label Studio.
            LabelStudioRefused: any 4xx, as its subclass where there is one.
        """
        response = self._authorized(
            method, self.base_url + path, params=params, body=body, timeout_s=timeout_s
        )
        self._raise_for_status(response, method, path)
        if not response.content:
            return None
        try:
            answer: object = json_of(response)
        except (ValueError, RecursionError) as error:
            found = response.headers.get("Content-Type", "no content type")
            if "json" in found:
                raise LabelStudioUnavailable(
                    f"the answer of Label Studio to {method} {path} ends in the middle, or is no "
                    f"JSON ({len(response.content)} bytes)"
                ) from error
            raise LabelStudioUnavailable(
                f"{method} {path}: found {found}, expected JSON from Label Studio; "
                f"is LABEL_STUDIO_URL ({self.base_url}) its address?"
            ) from error
        return answer

    def stream(self, url: str, *, timeout_s: float, connect_s: float) -> requests.Response:
        """GET a file of Label Studio with the token; redirects are not followed.

        Args:
            url: absolute, on Label Studio's own origin: the token goes nowhere else.
            timeout_s: seconds without a byte.
            connect_s: seconds to connect.

        Returns:
            The open response, whatever its status; the caller closes it.
        """
        if origin_of(url) != self.origin:
            raise ValueError(f"found a URL of {origin_of(url)}, the token is for {self.origin}")
        response = self._authorized(
            "GET", url, stream=True, timeout_s=timeout_s, connect_s=connect_s
        )
        if response.status_code == 401:
            try:
                self._raise_for_status(response, "GET", urlsplit(url).path)
            finally:
                response.close()
        return response

    def absolute(self, path: str) -> str:
        """The URL of a path such as ``/data/upload/1/a.png``.

        Label Studio may live below a path; stored paths may or may not repeat it.
        """
        prefix = urlsplit(self.base_url).path
        if prefix and (path == prefix or path.startswith(prefix + "/")):
            return urljoin(self.origin, path)
        return self.base_url + path

    def _authorized(
        self,
        method: Method,
        url: str,
        *,
        params: Params | None = None,
        body: object = None,
        stream: bool = False,
        timeout_s: float | None = None,
        connect_s: float = _CONNECT_S,
    ) -> requests.Response:
        timeout = (connect_s, timeout_s or self.timeout_s)
        header = self._auth.header()
        response = self._send(method, url, header, params, body, stream, timeout)
        if response.status_code == 401 and self._auth.renew(header):
            response.close()
            response = self._send(method, url, self._auth.header(), params, body, stream, timeout)
        return response

    def _send(
        self,
        method: Method,
        url: str,
        authorization: str | None,
        params: Params | None,
        body: object,
        stream: bool,
        timeout: tuple[float, float],
    ) -> requests.Response:
        """Send once; a kept-alive connection that had died is replaced once for a GET."""
        path = urlsplit(url).path
        for attempt in (1, 2):
            try:
                return self._session().request(
                    method,
                    url,
                    params=dict(params) if params else None,
                    json=body,
                    auth=_Header(authorization),
                    allow_redirects=False,
                    stream=stream,
                    timeout=timeout,
                )
            except requests.Timeout as error:
                raise LabelStudioUnavailable(
                    f"Label Studio at {self.base_url} did not answer {method} {path} "
                    f"within {timeout[1]:g} s"
                ) from error
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
                cause = cause_of(error)
                # Where nobody listens, asking again at once is of no use.
                if attempt == 2 or method != "GET" or cause in (_REFUSED, _UNKNOWN_NAME):
                    more = "; is it running?" if cause == _REFUSED else ""
                    raise LabelStudioUnavailable(
                        f"cannot reach Label Studio at {self.base_url}: {cause}{more}"
                    ) from error
                logger.debug("%s %s: connection lost, trying once more", method, path)
            except requests.RequestException as error:
                raise LabelStudioUnavailable(
                    f"{method} {path} failed: {type(error).__name__}; "
                    f"is LABEL_STUDIO_URL ({self.base_url}) right?"
                ) from error
        raise AssertionError("both attempts returned or raised")

    def _session(self) -> requests.Session:
        if self._given is not None:
            return self._given
        session = getattr(self._local, "session", None)
        if not isinstance(session, requests.Session):
            session = _Session()
            session.headers["User-Agent"] = "rarefirst"
            adapter = HTTPAdapter(pool_connections=2, pool_maxsize=4)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            self._local.session = session
        return session

    def _exchange(self, personal: str) -> str:
        """Buy an access token; a refusal is final, trouble is not."""
        path = "/api/token/refresh/"
        response = self._send(
            "POST",
            self.base_url + path,
            None,
            None,
            {"refresh": personal},
            False,
            (_CONNECT_S, self.timeout_s),
        )
        if response.status_code in (400, 401, 403):
            raise Unauthorized(PERSONAL_DEAD, status=response.status_code)
        self._raise_for_status(response, "POST", path)
        answer = object_of(response)
        access = answer.get("access")
        if not isinstance(access, str) or not access:
            raise LabelStudioUnavailable(
                f"POST {path}: found no access token in the answer of {self.base_url}"
            )
        return access

    def _raise_for_status(self, response: requests.Response, method: str, path: str) -> None:
        status = response.status_code
        if status < 300:
            return
        if status < 400:
            raise LabelStudioUnavailable(
                f"{method} {path}: {self.base_url} redirects to "
                f"{origin_of(urljoin(response.url, response.headers.get('Location', '')))}; "
                "set LABEL_STUDIO_URL to the address that Label Studio really has"
            )
        detail = _detail(response)
        if status == 429 or status >= 500:
            raise LabelStudioUnavailable(
                f"Label Studio answered {status} to {method} {path}: {detail}"
            )
        if status == 401:
            raise Unauthorized(self._auth.explain(detail), status=status, detail=detail)
        message = f"Label Studio refused {method} {path} ({status}): {detail}"
        if status == 404:
            raise NotFound(message, status=status, detail=detail)
        if status == 403 and "reserved network" in detail:
            raise AddressBlocked(message, status=status, detail=detail)
        if status == 400 and "Enter a valid URL" in detail:
            raise AddressUnusable(message, status=status, detail=detail)
        raise LabelStudioRefused(message, status=status, detail=detail)


class _Session(requests.Session):
    """Leaves redirects alone: requests itself reads their target even where it must not follow."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        return None


class _Header(requests.auth.AuthBase):
    """Sets the header itself; given as ``auth`` so that no .netrc file replaces it."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def origin_of(url: str) -> str:
    """Scheme, host and port in a form that compares: ``http://host:80`` for ``HTTP://Host/x``."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower().rstrip(".")
    if ":" in host:
        host = f"[{host}]"
    scheme = parts.scheme.lower()
    port = parts.port or {"http": 80, "https": 443}.get(scheme, 0)
    return f"{scheme}://{host}:{port}"


def json_of(response: requests.Response) -> object:
    """What an answer says; half surrogate pairs, which no file and no table takes, as "?".

    Raises: ValueError, RecursionError: it is no JSON that can be read.
    """
    found: object = response.json()
    if b"\\ud" in response.content.lower():
        found = json.loads(json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    return found


def object_of(response: requests.Response) -> Mapping[str, object]:
    """The JSON object of an answer; empty where it holds none."""
    try:
        body: object = json_of(response)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, Mapping) else {}


def _detail(response: requests.Response) -> str:
    """Label Studio's own words: ``detail`` and the validation errors, shortened."""
    body = object_of(response)
    said = [str(body["detail"])] if body.get("detail") else []
    errors = body.get("validation_errors")
    if isinstance(errors, Mapping):
        said += [f"{field}: {error}" for field, error in errors.items()]
    text = "; ".join(said) or response.reason or "no reason given"
    return text if len(text) <= _SAID else text[: _SAID - 3] + "..."


def cause_of(error: requests.RequestException) -> str:
    """Why an address could not be asked, in words for a person."""
    text = str(error)
    if "refused" in text:
        return _REFUSED
    if "NameResolution" in text or "resolve" in text:
        return _UNKNOWN_NAME
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate or its TLS is not accepted"
    return f"the connection broke ({type(error).__name__})"
