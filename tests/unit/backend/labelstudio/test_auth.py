from __future__ import annotations

import base64
import json

import pytest

from backend.errors import Unauthorized
from backend.labelstudio.auth import ACCESS_GIVEN, LEGACY_DISABLED, LEGACY_UNKNOWN, TokenAuth


def web_token(kind: str) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"token_type": kind}).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{body}.c2lnbmF0dXJl"


class Exchange:
    def __init__(self) -> None:
        self.bought = 0

    def __call__(self, personal: str) -> str:
        self.bought += 1
        return f"access-{self.bought}"


def test_a_legacy_token_goes_as_it_is() -> None:
    exchange = Exchange()
    auth = TokenAuth(" abc123 ", exchange=exchange)
    assert auth.header() == "Token abc123"
    assert not auth.renew(auth.header())
    assert exchange.bought == 0


def test_a_personal_token_buys_access_and_renews_before_it_ends() -> None:
    now = 0.0
    exchange = Exchange()
    auth = TokenAuth(web_token("refresh"), exchange=exchange, clock=lambda: now)
    assert auth.header() == "Bearer access-1"
    now = 239.0
    assert auth.header() == "Bearer access-1"
    now = 240.0
    assert auth.header() == "Bearer access-2"
    assert exchange.bought == 2


def test_a_refused_access_token_is_bought_anew_once_for_all_threads() -> None:
    exchange = Exchange()
    auth = TokenAuth(web_token("refresh"), exchange=exchange)
    refused = auth.header()
    assert auth.renew(refused)
    assert auth.renew(refused)  # another thread that was refused with the same token
    assert auth.header() == "Bearer access-2"
    assert exchange.bought == 2


def test_an_access_token_as_key_is_named() -> None:
    with pytest.raises(Unauthorized, match="personal access token itself") as caught:
        TokenAuth(web_token("access"), exchange=Exchange())
    assert str(caught.value) == ACCESS_GIVEN


def test_a_token_that_is_no_json_is_taken_for_personal() -> None:
    assert TokenAuth("a.b.c", exchange=Exchange()).personal


def test_each_kind_of_401_has_its_own_sentence() -> None:
    legacy = TokenAuth("abc", exchange=Exchange())
    detail = "Authentication token no longer valid: legacy token authentication has been disabled"
    assert legacy.explain(detail) == LEGACY_DISABLED
    assert legacy.explain("Invalid token.") == LEGACY_UNKNOWN
    assert "expired" in TokenAuth("a.b.c", exchange=Exchange()).explain("Invalid token.")
