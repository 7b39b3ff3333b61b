"""Label Studio's address, our token, its version and clock."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from backend.doctor import label_studio
from backend.errors import Unauthorized
from backend.labelstudio.auth import (
    LEGACY_DISABLED,
    LEGACY_UNKNOWN,
    PERSONAL_DEAD,
    expires_at,
    token_kind,
)
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.inspection import Sight, SightKind
from backend.labelstudio.records import UserInfo
from backend.settings import Settings
from tests.unit.backend.doctor.known import service_facts, severities

LEGACY = "0123456789abcdef0123456789abcdef01234567"


def web_token(**claims: object) -> str:
    coded = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "HS256"}, claims)
    ]
    return ".".join([*coded, "c2ln"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("label_studio", {}),
        ("unreachable", {"label_studio.unreachable": "error"}),
        ("slow", {"label_studio.slow": "error"}),
        ("redirects", {"label_studio.redirects": "error"}),
        ("path", {"label_studio.path": "error"}),
        ("other", {"label_studio.other_program": "error"}),
    ],
)
def test_what_is_at_its_address(
    settings: Settings, kind: SightKind, expected: dict[str, str]
) -> None:
    facts = service_facts(settings, sight=Sight(kind, "https://ls.example.org"))
    assert severities(label_studio.address(facts)) == expected


def test_the_address_to_set_instead_is_named(settings: Settings) -> None:
    facts = service_facts(settings, sight=Sight("redirects", "https://ls.example.org"))
    (found,) = label_studio.address(facts)
    assert found.mend == "set LABEL_STUDIO_URL=https://ls.example.org"


class Client:
    """Takes every token, or refuses with a sentence."""

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal

    def whoami(self) -> UserInfo:
        if self.refusal:
            raise Unauthorized(self.refusal, status=401)
        return UserInfo(id=1, email="owner@example.com")


@pytest.mark.parametrize(
    ("key", "refusal", "expected"),
    [
        (LEGACY, "", {}),
        (LEGACY, LEGACY_UNKNOWN, {"token.unknown": "error"}),
        (LEGACY, LEGACY_DISABLED, {"token.legacy_disabled": "error"}),
        (web_token(token_type="refresh", exp=time.time() + 10**8), "", {}),
        (web_token(token_type="refresh"), "", {}),
        (web_token(token_type="refresh", exp=time.time() + 3600), "", {"token.expires": "warning"}),
        (web_token(token_type="refresh"), PERSONAL_DEAD, {"token.dead": "error"}),
        ("half-a-token", LEGACY_UNKNOWN, {"token.malformed": "error"}),
    ],
    ids=["legacy", "unknown", "disabled", "personal", "endless", "ending", "dead", "malformed"],
)
def test_the_token(settings: Settings, key: str, refusal: str, expected: dict[str, str]) -> None:
    facts = service_facts(settings, settings={"label_studio_api_key": key}, client=Client(refusal))
    found = list(label_studio.token(facts))
    assert severities(found) == expected
    assert all(key not in finding.model_dump_json() for finding in found)


def test_an_access_token_is_known_without_asking(settings: Settings) -> None:
    key = web_token(token_type="access")
    facts = service_facts(settings, settings={"label_studio_api_key": key})
    assert severities(label_studio.token(facts)) == {"token.access": "error"}
    with pytest.raises(Unauthorized):
        LabelStudioClient("http://localhost", key)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (LEGACY, "legacy"),
        (f" {LEGACY}\n", "legacy"),
        (LEGACY[:-1], "unknown"),
        (f'"{LEGACY}"', "unknown"),
        (web_token(token_type="refresh"), "personal"),
        (web_token(token_type="access"), "access"),
        ("a.b.c", "personal"),
        ("", "unknown"),
    ],
)
def test_kinds_of_tokens(key: str, kind: str) -> None:
    assert token_kind(key) == kind


@pytest.mark.parametrize("claims", [{}, {"exp": "soon"}])
def test_a_token_that_does_not_say_when_it_ends(claims: dict[str, Any]) -> None:
    assert expires_at(web_token(**claims)) is None
    assert expires_at(LEGACY) is None
    assert expires_at("x.!!!.y") is None


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("1.23.2", {}),
        ("1.23.9", {"version.untested": "note"}),
        ("1.24.0", {"version.untested": "warning"}),
        ("2.0", {"version.untested": "warning"}),
    ],
)
def test_versions_that_were_tested(
    settings: Settings, release: str, expected: dict[str, str]
) -> None:
    facts = service_facts(settings, sight=Sight("label_studio", "", release, 0.0))
    assert severities(label_studio.version(facts)) == expected


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [
        (0.4, {}),
        (-9.0, {}),
        (3600.0, {"clock.differs": "warning"}),
        (-60.0, {"clock.differs": "warning"}),
        (None, {"clock.unknown": "note"}),
    ],
)
def test_the_clocks(settings: Settings, ahead_s: float | None, expected: dict[str, str]) -> None:
    facts = service_facts(settings, sight=Sight("label_studio", "", "1.23.2", ahead_s))
    assert severities(label_studio.clock(facts)) == expected
