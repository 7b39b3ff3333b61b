"""What our webhook must be like for Label Studio's events to arrive, and what one lacks."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal

from backend.labelstudio.records import Webhook

Fault = Literal["off", "login", "actions", "payload"]

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)
_LOGIN = "authorization"


def authorization_header(user: str, password: str) -> str:
    """The value of the ``Authorization`` header for a user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def with_login(headers: Mapping[str, str], basic_auth: tuple[str, str] | None) -> Mapping[str, str]:
    """A webhook's headers with our login, others left as they are.

    Args:
        headers: what it sends now.
        basic_auth: user and password that our endpoints ask for; None changes nothing.
    """
    if basic_auth is None:
        return headers
    others = {name: value for name, value in headers.items() if name.lower() != _LOGIN}
    return {**others, "Authorization": authorization_header(*basic_auth)}


def trouble(webhook: Webhook, basic_auth: tuple[str, str] | None) -> list[str]:
    """Why events do not arrive, in sentences without secrets; empty where they do.

    Args:
        webhook: as Label Studio shows it.
        basic_auth: user and password that our endpoints ask for; None: they ask for none.
    """
    return list(faults(webhook, basic_auth).values())


def faults(webhook: Webhook, basic_auth: tuple[str, str] | None) -> Mapping[Fault, str]:
    """What ``trouble`` tells, by what is wrong."""
    if not webhook.is_active:
        return {"off": "the webhook is switched off: new labels are seen by the timer only"}
    found: dict[Fault, str] = {}
    wanted = _login_of(with_login({}, basic_auth))
    sent = _login_of(webhook.headers)
    if wanted is not None and sent != wanted:
        said = "no Authorization header" if sent is None else "an Authorization header not ours"
        found["login"] = (
            f"the webhook sends {said}: each event is refused with 401, and new labels are seen "
            "by the timer only"
        )
    missing = [action for action in ACTIONS if action not in webhook.actions]
    if missing and not webhook.send_for_all_actions:
        found["actions"] = f"the webhook does not report {', '.join(missing)}"
    if not webhook.send_payload:
        found["payload"] = (
            "the webhook sends no payload: events do not say which project they are of"
        )
    return found


def carries_login(webhook: Webhook, basic_auth: tuple[str, str] | None) -> bool:
    """Whether a webhook sends our user and password; False where we ask for none."""
    return basic_auth is not None and _login_of(webhook.headers) == _login_of(
        with_login({}, basic_auth)
    )


def _login_of(headers: Mapping[str, str]) -> str | None:
    return next((value for name, value in headers.items() if name.lower() == _LOGIN), None)


def described(webhook: Webhook) -> str:
    """A webhook in words, without what its headers hold."""
    actions = "all actions" if webhook.send_for_all_actions else f"{len(webhook.actions)} actions"
    login = ", Authorization" if any(name.lower() == _LOGIN for name in webhook.headers) else ""
    return actions + login + ("" if webhook.is_active else ", switched off")
