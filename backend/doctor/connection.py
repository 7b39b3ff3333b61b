"""Checks of what ties a project to us, from both ends: connection, webhook, events."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import datetime

from backend.doctor.facts import ProjectFacts
from backend.doctor.finding import Finding, ago, error, note, ok, shown, warning
from backend.errors import ProjectGone
from backend.labelstudio.connection_record import CONNECTED, of_another_rarefirst, same_address
from backend.labelstudio.event_hook import Fault, carries_login, faults
from backend.labelstudio.records import Connection, Webhook

_UNSERVED = "new tasks get no live scores, and Label Studio shows the backend as not connected"
_BY_TIMER = "new labels are seen by the timer only, every {:g} s, not a second after they are given"
_SLACK_S = 60.0
_ERROR = "ER"
_URL = re.compile(r"https?://[^\s'\"]+")


def exists(facts: ProjectFacts) -> Iterator[Finding]:
    """The project is there, and we know it."""
    try:
        info = facts.info
    except ProjectGone:
        yield error(
            "project.gone",
            f"Label Studio has no project {facts.id} that this token can see",
            why="it was deleted, or belongs to another organization than the token's user",
            mend=f"nothing where it was deleted; else invite {_user(facts)} to its organization, "
            "or use a token of somebody in it",
        )
        return
    yield ok("project", f"{info.title!r}, {info.task_number} tasks")
    earlier = facts.service.stores.find(facts.id)
    if earlier is not None and earlier.key != facts.store.key:
        yield note(
            "project.rebuilt",
            f"another project had the number {facts.id} before; its folder {earlier.key} is left "
            "alone",
            why="Label Studio's database was made anew, and numbers begin at one again",
            mend=f"delete {earlier.root} if nobody needs it any more",
        )
    if facts.store.paused:
        yield note(
            "project.paused",
            "the project is paused",
            why="nothing is learned or published for it, and its queue stays as it is",
            mend="`rarefirst resume --project " + f"{facts.id}`",
        )


def connected(facts: ProjectFacts) -> Iterator[Finding]:
    """Label Studio has a connection to us, one only."""
    ours = facts.ours
    own = facts.service.settings.url
    taken = next((c for c in facts.called.connections if same_address(c.url, own)), None)
    if not ours and taken is not None:
        yield _elsewhere(facts, taken)
        return
    if not ours:
        was = " any more" if facts.record is not None else ""
        yield error(
            "project.not_connected",
            f"the project has no connection to us{was}{_others(len(facts.called.connections))}",
            why="no queue is made for it",
            mend=f"`rarefirst connect --project {facts.id}`",
        )
        return
    yield ok("connection", f"{ours[0].title!r} at {shown(ours[0].url)}")
    if len(ours) > 1:
        others = ", ".join(f"{c.id} ({shown(c.url)})" for c in ours[1:])
        yield warning(
            "connection.double",
            f"{len(ours)} connections lead to us: {ours[0].id} counts, and {others}",
            why="every event comes twice, and every label is stored that much later",
            mend=f"delete {others} in the project's settings, Model, and its webhook",
        )
    record = facts.record
    if record is not None and record.title != ours[0].title:
        yield note(
            "connection.renamed",
            f"the connection was {record.title!r} and is now {ours[0].title!r}",
            why="nothing depends on the name; disconnecting finds it all the same",
        )
    strangers = [c for c in facts.called.connections if c not in ours]
    for stranger in strangers:
        if of_another_rarefirst(stranger.model_version, facts.service.own_prefix):
            yield note(
                "connection.another_rarefirst",
                f"another rarefirst is connected too, at {shown(stranger.url)}",
                why="one of the two orders the queue: the one whose model version the project uses",
                mend="disconnect one of them",
            )
    if strangers and min(c.id for c in strangers) < ours[0].id:
        first = min(strangers, key=lambda c: c.id)
        yield note(
            "connection.not_first",
            f"{first.title!r} was connected before us",
            why="Label Studio asks only the first connection for live scores; the published queue "
            "does not need them",
        )


def reached(facts: ProjectFacts) -> Iterator[Finding]:
    """Label Studio, made to call us, arrives here."""
    connection = facts.connection
    url = shown(connection.url)
    if connection.state == _ERROR:
        yield _answered_wrongly(facts, connection)
    elif connection.state != CONNECTED:
        yield _not_reached(facts, connection)
    elif not facts.called.reached:
        yield _elsewhere(facts, connection)
    else:
        at = facts.marks.at("setup")
        when = f" {ago(time.time() - at)}" if at is not None else ""
        yield ok("connection.reached", f"Label Studio reached us{when} at {url}")


def _elsewhere(facts: ProjectFacts, connection: Connection) -> Finding:
    """What answers at the address that we take for ours is not us."""
    return error(
        "connection.other_service",
        f"Label Studio reaches something at {shown(connection.url)}, but its call did not arrive "
        "here",
        why="another service, or a rarefirst with another data directory, answers there: it says "
        f"{connection.model_version!r}",
        mend="set RAREFIRST_OWN_URL to our address as Label Studio reaches it, then `rarefirst "
        f"connect --project {facts.id}`; where a load balancer stands between, all its rarefirsts "
        "must share one RAREFIRST_DATA_DIR",
    )


def _answered_wrongly(facts: ProjectFacts, connection: Connection) -> Finding:
    """Label Studio got through to /health, but not through /setup."""
    said = _URL.sub(lambda match: shown(match.group()), connection.error_message)[:300]
    if "401" in said:
        given = connection.basic_auth_user if connection.auth_method == "BASIC_AUTH" else ""
        return error(
            "connection.login",
            "Label Studio reaches us, but with "
            + (f"a wrong user or password (user {given!r})" if given else "no user and password"),
            why=_UNSERVED,
            mend="`rarefirst doctor --fix`; or, in the project's settings, Model: edit the "
            "connection and enter BASIC_AUTH_USER and BASIC_AUTH_PASS of this service",
        )
    return error(
        "connection.refused",
        f"Label Studio reaches {shown(connection.url)}, and its /setup answered: {said}",
        why=_UNSERVED,
        mend="see the log of the web part at this moment; where another program answers there, "
        f"set RAREFIRST_OWN_URL and `rarefirst connect --project {facts.id}`",
    )


def _not_reached(facts: ProjectFacts, connection: Connection) -> Finding:
    """Label Studio does not say why; so its protection is asked, then the address compared."""
    url = shown(connection.url)
    refusal = facts.client.address_refusal(facts.id, connection.url, of="connection")
    if "reserved network" in refusal:
        return error(
            "connection.blocked",
            f"Label Studio refuses to call {url}: {refusal}",
            why=f"{_UNSERVED}, and its events do not arrive",
            mend="start Label Studio with SSRF_PROTECTION_ENABLED=false and "
            "ML_BLOCK_LOCAL_IP=false (both), or give rarefirst a public name (RAREFIRST_OWN_URL)",
        )
    own = facts.service.settings.url
    if not same_address(connection.url, own):
        known = bool(facts.service.settings.own_url)
        return error(
            "connection.address",
            f"Label Studio calls {url}, where nothing answers it; our address is "
            + (shown(own) if known else f"not known (perhaps {shown(own)})"),
            why=_UNSERVED,
            mend="`rarefirst doctor --fix` gives the connection our address (RAREFIRST_OWN_URL)"
            if known
            else "set RAREFIRST_OWN_URL to our address as Label Studio reaches it, or `rarefirst "
            f"connect --project {facts.id} --url ADDRESS`",
        )
    what = refusal or "nothing answers it there"
    return error(
        "connection.unreachable",
        f"Label Studio cannot reach {url}: {what}",
        why=_UNSERVED,
        mend="set RAREFIRST_OWN_URL to our address as Label Studio's machine reaches it (from "
        "another machine or a container that is not localhost), open the port, then `rarefirst "
        f"connect --project {facts.id}`",
    )


def webhook(facts: ProjectFacts) -> Iterator[Finding]:
    """Events are sent to us, once each, with our password."""
    yield from _elsewhere_too(facts)
    settings = facts.service.settings
    by_timer = _BY_TIMER.format(settings.timer_s)
    refusal = facts.client.address_refusal(facts.id, facts.hook_url, of="webhook")
    if refusal:
        yield warning(
            "webhook.blocked",
            f"Label Studio sends no events to {shown(facts.hook_url)}: {refusal}",
            why=by_timer,
            mend="start Label Studio with SSRF_PROTECTION_ENABLED=false too (ML_BLOCK_LOCAL_IP="
            "false alone connects, but sends nothing), or give rarefirst a public name",
        )
        return
    if not facts.hooks:
        yield warning(
            "webhook.missing",
            f"there is no webhook to {shown(facts.hook_url)}",
            why=by_timer,
            mend=f"`rarefirst doctor --fix`, or `rarefirst connect --project {facts.id}`",
        )
    else:
        yield from _like_ours(facts, facts.hooks[0], by_timer)
    if len(facts.hooks) > 1:
        yield warning(
            "webhook.double",
            f"{len(facts.hooks)} webhooks lead to {shown(facts.hook_url)}",
            why="every event comes that often, and annotators wait for each",
            mend="`rarefirst doctor --fix`, or delete all but one in the project's settings, "
            "Webhooks",
        )


def _like_ours(facts: ProjectFacts, hook: Webhook, by_timer: str) -> Iterator[Finding]:
    codes: dict[Fault, str] = {
        "off": "webhook.off",
        "login": "webhook.login",
        "actions": "webhook.actions",
        "payload": "webhook.payload",
    }
    found = faults(hook, facts.service.settings.basic_auth)
    for fault, sentence in found.items():
        what = sentence.partition(":")[0]
        mend = f"`rarefirst doctor --fix`, or `rarefirst connect --project {facts.id}`"
        yield warning(codes[fault], what, why=by_timer, mend=mend)
    if not found:
        yield ok("webhook", f"events are sent to {shown(hook.url)}")


def _elsewhere_too(facts: ProjectFacts) -> Iterator[Finding]:
    """Webhooks that send our password where no connection leads.

    First of all: another webhook that is made for us takes the stray one's place in our notes.
    """
    strays = stray(facts)
    for hook in strays:
        yield warning(
            "webhook.stray",
            f"a webhook of ours leads to {shown(hook.url)}",
            why="annotators wait up to a second for each event that nobody takes there, and it "
            "sends our password there",
            mend="`rarefirst doctor --fix`, or delete it in the project's settings, Webhooks",
        )
    for hook in _unowned(facts):
        if hook not in strays and carries_login(hook, facts.service.settings.basic_auth):
            yield warning(
                "webhook.carries_login",
                f"a webhook that we do not know sends our password to {shown(hook.url)}, where no "
                "connection of the project leads",
                why="it may be one of ours from an earlier address, or somebody's own; annotators "
                "wait up to a second for each event that nobody takes there",
                mend="delete it in the project's settings, Webhooks, unless somebody needs it",
            )


def stray(facts: ProjectFacts) -> list[Webhook]:
    """Webhooks that are ours by our own notes, and lead where no connection leads.

    The login alone does not make one ours: another rarefirst, or a program of the user's, may have
    the same.
    """
    record = facts.record
    return [hook for hook in _unowned(facts) if record is not None and hook.id == record.webhook_id]


def _unowned(facts: ProjectFacts) -> list[Webhook]:
    """Webhooks at an address where no connection of the project leads, ours or another's."""
    addresses = [c.url.rstrip("/") + "/webhook" for c in facts.called.connections]
    return [
        hook
        for hook in facts.webhooks
        if not any(same_address(hook.url, address) for address in addresses)
    ]


def events(facts: ProjectFacts) -> Iterator[Finding]:
    """The newest label was told by an event."""
    last = facts.marks.last_event()
    told = "no event came yet" if last is None else f"{last[0]} came {ago(time.time() - last[1])}"
    label_at = facts.newest_label_at
    since = _watched_since(facts)
    # All by our own clock.
    given = None if label_at is None else label_at.timestamp() - (facts.service.sight.ahead_s or 0)
    if given is None or since is None or given < since:
        yield ok("events", f"{told}; no label was given since the webhook is as it is")
    elif last is None or last[1] < given - _SLACK_S:
        refused = facts.service.marks.at("refused-webhook")
        reason = (
            f"; a webhook was refused for its login {ago(time.time() - refused)}"
            if refused is not None and refused > given - _SLACK_S
            else ""
        )
        yield warning(
            "events.lost",
            f"the newest label was given {ago(time.time() - given)}, and {told}{reason}",
            why=_BY_TIMER.format(facts.service.settings.timer_s),
            mend="see whether a proxy or firewall stands between Label Studio and us; its log says "
            "why an event could not be sent",
        )
    else:
        yield ok("events", told)


def _watched_since(facts: ProjectFacts) -> float | None:
    """From when on labels must have been told of, by our clock; None where there is no webhook."""
    if not facts.hooks:
        return None
    ahead = facts.service.sight.ahead_s or 0.0
    changed: datetime | None = facts.hooks[0].updated_at
    times = [] if changed is None else [changed.timestamp() - ahead]
    if facts.record is not None:
        times.append(facts.record.connected_at.timestamp())
    return max(times, default=None)


def _others(count: int) -> str:
    return f", but {count} to others" if count else ""


def _user(facts: ProjectFacts) -> str:
    user = facts.service.user
    return user.email or user.username or f"user {user.id}"
