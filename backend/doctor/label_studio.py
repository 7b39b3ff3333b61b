"""Checks of Label Studio itself: its address, our token, its version, its clock."""

from __future__ import annotations

import time
from collections.abc import Iterator

from backend.doctor.facts import ServiceFacts
from backend.doctor.finding import Finding, error, note, ok, shown, warning
from backend.errors import Unauthorized
from backend.labelstudio.auth import (
    ACCESS_GIVEN,
    LEGACY_DISABLED,
    LEGACY_UNKNOWN,
    PERSONAL_DEAD,
    TokenKind,
    expires_at,
    token_kind,
)

#: Releases that the end-to-end tests ran against.
TESTED = ("1.23.2",)

_NOTHING = "nothing can be read from Label Studio or published there"
_CLOCK_S = 10.0
_SOON_S = 14 * 24 * 3600.0
_KINDS: dict[TokenKind, str] = {
    "personal": "a personal access token",
    "legacy": "a legacy token",
    "access": "an access token",
    "unknown": "a token of a form that is not known",
}


def address(facts: ServiceFacts) -> Iterator[Finding]:
    """At LABEL_STUDIO_URL there is a Label Studio."""
    url, sight = shown(facts.settings.label_studio_url), facts.sight
    if sight.kind == "label_studio":
        yield ok("label_studio", f"Label Studio answers at {url} in {sight.took_s * 1000:.0f} ms")
    elif sight.kind in ("unreachable", "slow"):
        yield error(
            f"label_studio.{sight.kind}",
            f"Label Studio at {url}: {sight.detail}",
            why=f"{_NOTHING}; it goes on serving the last published queue",
            mend="start Label Studio, or set LABEL_STUDIO_URL to its address as this machine "
            "reaches it (in a container not localhost)",
        )
    elif sight.kind == "redirects":
        yield error(
            "label_studio.redirects",
            f"{url} redirects to {shown(sight.detail)}",
            why=f"redirects are not followed, since the token would go along: {_NOTHING}",
            mend=f"set LABEL_STUDIO_URL={shown(sight.detail)}",
        )
    elif sight.kind == "path":
        yield error(
            "label_studio.path",
            f"Label Studio is there, but not below the path of {url}",
            why=_NOTHING,
            mend=f"set LABEL_STUDIO_URL={sight.detail}, without the path of a page",
        )
    else:
        yield error(
            "label_studio.other_program",
            f"what answers at {url} is not Label Studio ({sight.detail})",
            why=_NOTHING,
            mend="set LABEL_STUDIO_URL to Label Studio's address, without the path of a page",
        )


def token(facts: ServiceFacts) -> Iterator[Finding]:
    """The token is of a kind that lasts, and Label Studio takes it."""
    key = facts.settings.label_studio_api_key
    kind = token_kind(key)
    try:
        user = facts.user
    except Unauthorized as failure:
        yield _refused(kind, str(failure))
        return
    name = user.email or user.username or f"user {user.id}"
    end = expires_at(key) if kind == "personal" else None
    left = None if end is None else end - time.time()
    if left is not None and left < _SOON_S:
        yield warning(
            "token.expires",
            f"the token of {name} ends in {max(0.0, left) / 86_400:.1f} days",
            why=f"from then on {_NOTHING}",
            mend="make a new one (Account & Settings > Personal Access Token) and set "
            "LABEL_STUDIO_API_KEY to it",
        )
        return
    yield ok("token", f"Label Studio takes the token: {_KINDS[kind]} of {name}")


def _refused(kind: TokenKind, said: str) -> Finding:
    """A token that Label Studio does not take, or that we know better than to send."""
    make = "make a personal access token (Account & Settings > Personal Access Token) and set "
    make += "LABEL_STUDIO_API_KEY to it"
    code, what, mend = {
        ACCESS_GIVEN: (
            "token.access",
            "LABEL_STUDIO_API_KEY is an access token, which lives for minutes only",
            "set it to the personal access token itself",
        ),
        LEGACY_DISABLED: (
            "token.legacy_disabled",
            "LABEL_STUDIO_API_KEY is a legacy token, and those are switched off here",
            f"{make}; or switch legacy tokens on (Organization > Access Token Settings)",
        ),
        PERSONAL_DEAD: (
            "token.dead",
            "the personal access token has expired, was revoked, or is of another Label Studio",
            make,
        ),
        LEGACY_UNKNOWN: ("token.unknown", "no user of Label Studio has this legacy token", make),
    }.get(said, ("token.refused", "Label Studio does not take the token", make))
    if kind == "unknown":
        code, what = "token.malformed", "LABEL_STUDIO_API_KEY has the form of no token"
        mend = f"copy it again, whole and without quotes; or {make}"
    return error(code, what, why=_NOTHING, mend=mend)


def version(facts: ServiceFacts) -> Iterator[Finding]:
    """Its version is one of those tested."""
    release, tested = facts.sight.release, ", ".join(TESTED)
    if release in TESTED:
        yield ok("version", f"Label Studio {release}, which rarefirst is tested with")
        return
    said = f"Label Studio {release}; rarefirst is tested with {tested}"
    why = "orders, events and protections were measured there, and differ between releases"
    mend = "look whether the first tasks served are those of `rarefirst queue`; or use " + tested
    if release.rpartition(".")[0] in {known.rpartition(".")[0] for known in TESTED}:
        yield note("version.untested", said, why=why, mend=mend)
    else:
        yield warning("version.untested", said, why=why, mend=mend)


def clock(facts: ServiceFacts) -> Iterator[Finding]:
    """Its clock and ours agree."""
    ahead = facts.sight.ahead_s
    if ahead is None:
        yield note("clock.unknown", "Label Studio does not say what time it is there")
    elif abs(ahead) > _CLOCK_S:
        yield warning(
            "clock.differs",
            f"Label Studio's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} "
            "ours",
            why="the loop reads by Label Studio's clock alone and is not misled, but times in "
            "`rarefirst status` and in the logs do not fit together, and tokens may end early",
            mend="set both clocks by NTP",
        )
    else:
        yield ok("clock", "Label Studio's clock and ours agree")
