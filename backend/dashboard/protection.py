"""Why no other site can have a browser do anything here, and what our pages may load.

A form carries a token that belongs to the session in the visitor's cookie: both are HMACs under
this data directory's key, so that neither can be made elsewhere. The cookie is not sent along by
other sites (SameSite=Strict), and what browsers say of a request's origin is checked besides.

A login that a browser knows it sends with what other sites post, too: so whatever does say that it
comes from another site is refused on every address. Label Studio's server says nothing of the kind.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, request
from werkzeug.datastructures import Headers

from backend.errors import ForeignRequest
from backend.serializer import queue_key

COOKIE = "rarefirst_session"
FIELD = "token"
_NONCE_BYTES = 24
_LOOKS = frozenset({"GET", "HEAD", "OPTIONS"})

#: Of every answer: scripts, styles and pictures from here only, nothing inline, no frame around it.
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # Not no-referrer: browsers then call the origin of our own forms "null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Sessions:
    """Cookies and the tokens that belong to them, under a data directory's key."""

    def __init__(self, data_dir: Path) -> None:
        self._key = hashlib.sha256(b"dashboard" + queue_key(data_dir)).digest()

    def begin(self) -> str:
        """A new session's cookie."""
        nonce = secrets.token_urlsafe(_NONCE_BYTES)
        return f"{nonce}.{self._seal('cookie', nonce)}"

    def is_ours(self, cookie: str) -> bool:
        """Whether a cookie is one that we made."""
        nonce, _, seal = cookie.partition(".")
        return hmac.compare_digest(seal.encode(), self._seal("cookie", nonce).encode())

    def token(self, cookie: str) -> str:
        """What forms of this session carry."""
        return self._seal("form", cookie)

    def check(self, cookie: str, token: str) -> None:
        """Refuse a form that is not of this session.

        Raises: ForeignRequest
        """
        right = hmac.compare_digest(token.encode(), self.token(cookie).encode())
        if not (right & self.is_ours(cookie)):
            raise ForeignRequest(
                "the form is of another session; open the page again and press the button there"
            )

    def _seal(self, what: str, text: str) -> str:
        return hmac.new(self._key, f"{what}:{text}".encode(), hashlib.sha256).hexdigest()


def own_hosts(own_url: str) -> set[str]:
    """Names and ports that are ours: the one that was asked for, and the one that is set."""
    return {host for host in (request.host, urlsplit(own_url).netloc) if host}


def check_origin(headers: Headers, hosts: Collection[str]) -> None:
    """Refuse a request that does not come from our own page, by what the browser says of it.

    Args:
        headers: of the request.
        hosts: the names, with ports, under which we are asked. The scheme is not compared: whoever
            ends TLS in front of us may say it is http.

    Raises: ForeignRequest
    """
    said = headers.get("Origin") or headers.get("Referer") or ""
    if not _names_us(said, hosts) or headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        raise ForeignRequest(
            "the request does not come from this dashboard's own page; open the page and press "
            "the button there"
        )


def refuse_other_sites(app: Flask, own_url: str) -> None:
    """Refuse what a page of another site has a browser send, unless it only looks."""

    @app.before_request
    def check() -> None:
        if request.method in _LOOKS:
            return
        origin = request.headers.get("Origin")
        foreign = origin is not None and not _names_us(origin, own_hosts(own_url))
        if foreign or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise ForeignRequest("the request was sent by a page of another site, and is not taken")


def _names_us(address: str, hosts: Collection[str]) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and parts.netloc in hosts
