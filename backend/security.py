"""Who may talk to us: basic authentication, compared in constant time.

Label Studio sends the connection's user and password with every request but webhooks; `connect`
gives the webhook the same ``Authorization`` header, so one check serves both.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

from flask import Flask, Request, request
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized

_OPEN = frozenset({"/health"})
# Refusals of these are marked: that Label Studio lacks our password is what they usually mean.
_MARKED = frozenset({"/webhook", "/setup", "/predict"})


def is_allowed(header: str, credentials: tuple[str, str]) -> bool:
    """Whether an ``Authorization`` header carries these credentials.

    The decoded bytes are compared, and user and password both always are, so that neither the
    time taken nor the spelling of the scheme tells anything.
    """
    scheme, _, value = header.partition(" ")
    try:
        given = base64.b64decode(value.strip(), validate=True)
    except ValueError:
        given = b""
    user, _, password = given.partition(b":")
    right_user = hmac.compare_digest(user, credentials[0].encode())
    right_password = hmac.compare_digest(password, credentials[1].encode())
    return right_user & right_password & (scheme.lower() == "basic")


def require_basic_auth(
    app: Flask,
    credentials: tuple[str, str] | None,
    *,
    refused: Callable[[str], None] = lambda mark: None,
) -> None:
    """Refuse every request but /health that does not carry the credentials (None: take all).

    Args:
        app: the application.
        credentials: user and password.
        refused: told of each refusal that Label Studio may have met, ``refused-webhook`` for
            example.
    """
    if credentials is None:
        return

    @app.before_request
    def check() -> None:
        if not _is_open(request) and not is_allowed(
            request.headers.get("Authorization", ""), credentials
        ):
            if request.path.rstrip("/") in _MARKED:
                refused("refused-" + request.path.strip("/"))
            raise Unauthorized(
                "user or password is missing or wrong; set BASIC_AUTH_USER and BASIC_AUTH_PASS "
                "of this backend in the connection's settings",
                www_authenticate=WWWAuthenticate("basic", {"realm": "rarefirst"}),
            )


def _is_open(asked: Request) -> bool:
    return asked.path.rstrip("/") in _OPEN
