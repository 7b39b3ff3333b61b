"""Connection, webhook and events of a project, from both ends."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime

import pytest

from backend.doctor import connection as checks
from backend.doctor.facts import Called
from backend.doctor.fixes import fix_for
from backend.errors import ProjectGone
from backend.marks import FOLDER
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.recorded import CREATED_S, PROJECT_ID
from tests.unit.backend.doctor.known import (
    LOGIN,
    OWN,
    FakeClient,
    connection,
    info,
    our_name,
    project_facts,
    record,
    service_facts,
    severities,
    webhook,
)

BLOCKED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"


class GoneClient(FakeClient):
    def project(self, project_id: int) -> object:
        raise ProjectGone(project_id)

    def whoami(self) -> object:
        return type("User", (), {"email": "owner@example.com", "username": "", "id": 1})()


def test_a_project_that_is_there(settings: Settings, store: ProjectStore) -> None:
    assert severities(checks.exists(project_facts(settings))) == {}


def test_a_project_that_is_gone(settings: Settings) -> None:
    facts = project_facts(settings, service=service_facts(settings, client=GoneClient()))
    del facts.__dict__["info"]
    assert severities(checks.exists(facts)) == {"project.gone": "error"}


def test_a_paused_project_and_one_that_had_its_number(
    settings: Settings, store: ProjectStore
) -> None:
    store.path("paused").touch()
    assert severities(checks.exists(project_facts(settings))) == {"project.paused": "note"}
    anew = info(created_at=datetime.fromtimestamp(CREATED_S + 99, UTC))
    facts = project_facts(settings, info=anew)
    assert severities(checks.exists(facts)) == {"project.rebuilt": "note"}


def test_one_connection_to_us(settings: Settings) -> None:
    assert severities(checks.connected(project_facts(settings))) == {}


@pytest.mark.parametrize("strangers", [0, 1])
def test_no_connection_to_us(settings: Settings, strangers: int) -> None:
    yolo = connection("yolo-7", url="http://yolo:9090", title="yolo")
    facts = project_facts(settings, connections=(yolo,) * strangers)
    (found,) = checks.connected(facts)
    assert found.code == "project.not_connected"
    assert f"rarefirst connect --project {PROJECT_ID}" in found.mend


def test_another_rarefirst_at_our_address(settings: Settings) -> None:
    facts = project_facts(settings, connections=(connection("rarefirst-000000-v0001-aaaa"),))
    assert severities(checks.connected(facts)) == {"connection.other_service": "error"}


def test_connections_beside_ours(settings: Settings) -> None:
    ours = our_name(settings)
    yolo = connection("yolo-7", 1, url="http://yolo:9090", title="yolo")
    other = connection("rarefirst-000000-v0001-aaaa", 5, url="http://other:9090")
    facts = project_facts(
        settings,
        connections=(yolo, connection(ours, 2, title="renamed"), connection(ours, 3), other),
    )
    assert severities(checks.connected(facts)) == {
        "connection.double": "warning",
        "connection.renamed": "note",
        "connection.not_first": "note",
        "connection.another_rarefirst": "note",
    }


@pytest.mark.parametrize(
    ("fields", "refusal", "arrives", "expected"),
    [
        ({}, "", True, ""),
        ({}, "", False, "connection.other_service"),
        ({"state": "ER", "error_message": "401 Unauthorized"}, "", False, "connection.login"),
        ({"state": "ER", "error_message": "500 Server Error"}, "", False, "connection.refused"),
        ({"state": "DI"}, BLOCKED, False, "connection.blocked"),
        ({"state": "DI", "url": "http://old:9090"}, "", False, "connection.address"),
        ({"state": "DI", "url": "http://old:9090/"}, BLOCKED, False, "connection.blocked"),
        ({"state": "DI"}, "", False, "connection.unreachable"),
        ({"state": "DI"}, "its name cannot be resolved there", False, "connection.unreachable"),
    ],
)  # fmt: skip
def test_whether_label_studio_reaches_us(
    settings: Settings, fields: dict[str, object], refusal: str, arrives: bool, expected: str
) -> None:
    client = FakeClient()
    client.refusals["connection"] = refusal
    facts = project_facts(settings, service=service_facts(settings, client=client))
    row = connection(our_name(settings), **fields)
    facts.__dict__["called"] = Called((row,), reached=arrives)
    found = severities(checks.reached(facts))
    assert found == ({expected: "error"} if expected else {})


def test_a_password_in_an_error_message_is_not_repeated(settings: Settings) -> None:
    facts = project_facts(settings)
    row = connection(
        "x", state="ER", error_message="500 for url: http://u:hunter2@here:1/setup?a=b"
    )
    facts.__dict__["called"] = Called((row,), reached=False)
    (found,) = checks.reached(facts)
    assert "http://here:1/setup" in found.what
    assert "hunter2" not in found.model_dump_json()


@pytest.mark.parametrize(
    ("hooks", "expected"),
    [
        ((webhook(),), {}),
        ((), {"webhook.missing"}),
        ((webhook(is_active=False),), {"webhook.off"}),
        ((webhook(headers={}),), {"webhook.login"}),
        ((webhook(headers={"Authorization": "Basic x"}),), {"webhook.login"}),
        ((webhook(actions=("TASKS_CREATED",)),), {"webhook.actions"}),
        ((webhook(send_payload=False),), {"webhook.payload"}),
        ((webhook(), webhook(2)), {"webhook.double"}),
        ((webhook(2), webhook(3, url="http://old:9090/webhook")), {"webhook.carries_login"}),
        ((webhook(2), webhook(1, url="http://old:9/webhook", headers={})), {"webhook.stray"}),
        ((webhook(), webhook(7, url="http://somebody/hook", headers={})), {}),
    ],
)
def test_the_webhook(settings: Settings, hooks: tuple[object, ...], expected: set[str]) -> None:
    found = list(checks.webhook(project_facts(settings, hooks=hooks)))
    assert severities(found) == dict.fromkeys(expected, "warning")
    assert all(LOGIN[1] not in finding.model_dump_json() for finding in found)


def test_a_webhook_of_another_connection_is_not_ours(settings: Settings) -> None:
    """Another rarefirst has the same login, or its place was taken in our notes."""
    connections = (
        connection(our_name(settings, "0"), 1),
        connection("rarefirst-000000-0", 2, url="http://Other:9090/", title="other"),
    )
    for known in (1, 2):
        facts = project_facts(
            settings,
            connections=connections,
            hooks=(webhook(1), webhook(2, url="http://other:9090/webhook")),
            record=record(webhook_id=known),
        )
        assert checks.stray(facts) == []
        assert severities(checks.webhook(facts)) == {}


def test_a_stray_webhook_is_told_before_a_missing_one(settings: Settings) -> None:
    """Mended in that order: the new webhook takes the stray one's place in our notes."""
    facts = project_facts(settings, hooks=(webhook(1, url="http://old:9/webhook"),))
    assert list(severities(checks.webhook(facts))) == ["webhook.stray", "webhook.missing"]


def test_a_webhook_that_label_studio_refuses(settings: Settings) -> None:
    client = FakeClient()
    client.refusals["webhook"] = BLOCKED
    facts = project_facts(settings, service=service_facts(settings, client=client), hooks=())
    assert severities(checks.webhook(facts)) == {"webhook.blocked": "warning"}


def event(store: ProjectStore, seconds_ago: float) -> None:
    path = store.path(FOLDER, "event-ANNOTATION_CREATED")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    at = time.time() - seconds_ago
    os.utime(path, (at, at))


def ago(seconds: float) -> datetime:
    return datetime.fromtimestamp(time.time() - seconds, UTC)


@pytest.mark.parametrize(
    ("label_ago", "event_ago", "hook_ago", "expected"),
    [
        (None, None, 9000, {}),
        (100, 99, 9000, {}),
        (100, 150, 9000, {}),
        (100, None, 9000, {"events.lost": "warning"}),
        (100, 800, 9000, {"events.lost": "warning"}),
        # The webhook was mended after the label: nothing is to be known before the next.
        (100, None, 50, {}),
    ],
)
def test_the_newest_label_was_told_by_an_event(
    settings: Settings,
    store: ProjectStore,
    label_ago: float | None,
    event_ago: float | None,
    hook_ago: float,
    expected: dict[str, str],
) -> None:
    if event_ago is not None:
        event(store, event_ago)
    facts = project_facts(
        settings,
        newest_label_at=None if label_ago is None else ago(label_ago),
        hooks=(webhook(updated_at=ago(hook_ago)),),
        record=record(connected_at=ago(10_000)),
    )
    assert severities(checks.events(facts)) == expected


def test_a_refused_webhook_is_told_as_the_reason(settings: Settings, store: ProjectStore) -> None:
    facts = project_facts(settings, newest_label_at=ago(100), record=record(connected_at=ago(999)))
    facts.service.marks.leave("refused-webhook")
    (found,) = checks.events(facts)
    assert "a webhook was refused for its login 0." in found.what


def test_labels_are_compared_by_one_clock(settings: Settings, store: ProjectStore) -> None:
    """Label Studio's clock is an hour ahead: its labels look newer than they are."""
    facts = project_facts(
        settings, newest_label_at=ago(100 - 3600), record=record(connected_at=ago(9999))
    )
    sight = facts.service.sight
    facts.service.__dict__["sight"] = type(sight)("label_studio", "", "1.23.2", 3600.0)
    event(store, 99)
    assert severities(checks.events(facts)) == {}


def test_the_address_that_counts_is_the_connections(settings: Settings) -> None:
    """In a container network Label Studio knows us under another name than we do."""
    facts = project_facts(
        settings,
        connections=(connection(our_name(settings), url="http://web:9090/"),),
        hooks=(webhook(url="http://web:9090/webhook"),),
    )
    assert facts.hook_url == "http://web:9090/webhook"
    assert facts.service.settings.url == OWN
    assert severities(checks.webhook(facts)) == {}
    assert severities(checks.reached(facts)) == {}


@pytest.mark.parametrize(
    ("own_url", "mend"), [("http://here:9090", "doctor --fix"), ("", "RAREFIRST_OWN_URL")]
)
def test_a_wrong_address_is_mended_only_by_a_known_one(
    settings: Settings, own_url: str, mend: str
) -> None:
    service = service_facts(settings, settings={"own_url": own_url}, client=FakeClient())
    row = connection(service.own_prefix + "0", url="http://old:9090", state="DI")
    facts = project_facts(settings, service=service, connections=(row,))
    facts.__dict__["called"] = Called((row,), reached=False)
    (found,) = checks.reached(facts)
    assert found.code == "connection.address"
    assert mend in found.mend
    assert (fix_for(found.code, service.settings) is not None) == bool(own_url)
