"""The two kinds of API tokens that Label Studio knows, and the header that each one makes.

A legacy token (40 hex digits) goes into the header as it is, and is off by default in new
organizations. A personal access token is a JSON web token that only buys access tokens, which
live for 300 seconds.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Literal

from backend.errors import Unauthorized

TokenKind = Literal["legacy", "personal", "access", "unknown"]

_LEGACY = re.compile(r"[0-9a-f]{40}")
_RENEW_AFTER_S = 240.0  # an access token lives for 300 s

LEGACY_DISABLED = (
    "Label Studio refused LABEL_STUDIO_API_KEY: it is a legacy token, and legacy tokens are "
    "switched off in this organization. Make a personal access token (Account & Settings > "
    "Personal Access Token) and set LABEL_STUDIO_API_KEY to it, or switch legacy tokens on."
)
LEGACY_UNKNOWN = (
    "Label Studio refused LABEL_STUDIO_API_KEY: no user has this token. Copy it again from "
    "Account & Settings; it may have been reset since."
)
PERSONAL_DEAD = (
    "Label Studio refused LABEL_STUDIO_API_KEY: this personal access token has expired, was "
    "revoked, or belongs to another Label Studio. Make a new one (Account & Settings > Personal "
    "Access Token) and set LABEL_STUDIO_API_KEY to it."
)
ACCESS_GIVEN = (
    "LABEL_STUDIO_API_KEY is an access token, which lives for minutes only. Set it to the "
    "personal access token itself (Account & Settings > Personal Access Token)."
)


class TokenAuth:
    """Makes the ``Authorization`` header for one API key; safe to share between threads.

    Args:
        api_key: a legacy token or a personal access token.
        exchange: buys an access token for a personal access token; raises Unauthorized if Label
            Studio refuses it.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        api_key: str,
        *,
        exchange: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._key = api_key.strip()
        self._exchange = exchange
        self._clock = clock
        self._lock = threading.Lock()
        self._access = ""
        self._bought_at = 0.0
        self.personal = _is_jwt(self._key)
        if self.personal and _token_type(self._key) == "access":
            raise Unauthorized(ACCESS_GIVEN, status=401)

    def header(self) -> str:
        """The header's value; buys or renews an access token where one is needed."""
        if not self.personal:
            return f"Token {self._key}"
        with self._lock:
            if not self._access or self._clock() - self._bought_at >= _RENEW_AFTER_S:
                self._buy()
            return f"Bearer {self._access}"

    def renew(self, refused: str) -> bool:
        """After a 401: buy a new access token; False where that cannot help.

        Args:
            refused: the header that was refused. Another thread may have renewed it meanwhile,
                then there is nothing to buy.
        """
        if not self.personal:
            return False
        with self._lock:
            if refused == f"Bearer {self._access}":
                self._buy()
        return True

    def explain(self, detail: str) -> str:
        """What to tell the user about a 401 that said ``detail``."""
        if self.personal:
            return PERSONAL_DEAD
        return LEGACY_DISABLED if "legacy" in detail.lower() else LEGACY_UNKNOWN

    def _buy(self) -> None:
        moment = self._clock()  # counted from before the request: never too long
        self._access = self._exchange(self._key)
        self._bought_at = moment


def token_kind(api_key: str) -> TokenKind:
    """What an API key is by its form; nothing in it is believed."""
    key = api_key.strip()
    if _is_jwt(key):
        return "access" if _token_type(key) == "access" else "personal"
    return "legacy" if _LEGACY.fullmatch(key) else "unknown"


def expires_at(api_key: str) -> float | None:
    """When a personal access token says that it ends, Unix seconds; None where it does not say."""
    key = api_key.strip()
    end = _payload(key).get("exp") if _is_jwt(key) else None
    return float(end) if isinstance(end, int | float) else None


def _is_jwt(key: str) -> bool:
    return key.count(".") == 2 and all(key.split("."))


def _token_type(key: str) -> str:
    """What a web token says it is; empty where it cannot be read (it is never trusted)."""
    kind = _payload(key).get("token_type")
    return kind if isinstance(kind, str) else ""


def _payload(key: str) -> dict[str, object]:
    """What a web token says of itself."""
    middle = key.split(".")[1]
    try:
        payload = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return payload if isinstance(payload, dict) else {}
