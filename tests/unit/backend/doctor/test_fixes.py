"""What each fix does, and above all what it does not touch."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from backend import connecting, heartbeat
from backend.doctor import fixes
from backend.doctor.facts import ProjectFacts
from backend.doctor.finding import error
from backend.doctor.fixes import FIXES, Mender, NotYetError
from backend.errors import NotConnected, NotFound
from backend.labelstudio.connection_record import ConnectionReport
from backend.labelstudio.records import Webhook
from backend.projects import ProjectStore, Publication, Publications
from backend.settings import Settings
from tests.unit.backend.doctor.known import (
    OWN,
    FakeClient,
    connection,
    info,
    our_name,
    project_facts,
    record,
    service_facts,
    webhook,
)

SAME_HOST = "http://127.0.0.1:9090"


class Writing(FakeClient):
    """Takes down what is changed."""

    def __init__(self, *gone: int) -> None:
        super().__init__()
        self.done: list[tuple[str, object]] = []
        self.gone = gone

    def delete_webhook(self, number: int) -> None:
        if number in self.gone:
            raise NotFound("gone", status=404)
        self.done.append(("webhook", number))

    def delete_connection(self, number: int) -> None:
        self.done.append(("connection", number))

    def update_project(self, project_id: int, **fields: object) -> object:
        self.done.append(("project", fields))
        return info()

    def project(self, project_id: int) -> object:
        return info()

    def model_versions(self, project_id: int) -> dict[str, int]:
        return {}


def facts_with(settings: Settings, client: Writing, **known: Any) -> ProjectFacts:
    return project_facts(settings, service=service_facts(settings, client=client), **known)


def connects(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """With what a project is connected again."""
    calls: list[dict[str, object]] = []

    def connect_project(settings: Settings, project: int, **given: object) -> ConnectionReport:
        calls.append(given)
        return ConnectionReport(project_id=project, dry_run=False)

    monkeypatch.setattr(connecting, "connect_project", connect_project)
    return calls


def test_connecting_again_keeps_the_address_and_consents_to_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label Studio does not reach us while the web part is stopped: its address may be right."""
    calls = connects(monkeypatch)
    service = service_facts(settings, settings={"own_url": "http://here:9090"}, client=Writing())
    row = connection(service.own_prefix + "0", url="http://web:9090", state="DI")
    facts = project_facts(settings, service=service, connections=(row,))
    again, moved = FIXES["sampling.other"].project, FIXES["connection.address"].project
    assert again is not None
    assert moved is not None
    again(facts)
    moved(facts)
    assert [call["own_url"] for call in calls] == ["http://web:9090", "http://here:9090"]
    assert [call["consent"] for call in calls] == [False, False]
    assert [call["take_over"] for call in calls] == [False, False]


def test_no_connection_is_made_where_it_is_gone_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = connects(monkeypatch)
    with pytest.raises(NotConnected):
        fixes._connect(facts_with(settings, Writing(), connections=()))
    assert calls == []


def hook(number: int, base: str, **fields: object) -> Webhook:
    return webhook(number, url=base + "/webhook", **fields)


def test_the_younger_connection_and_its_webhook_go(settings: Settings) -> None:
    client = Writing()
    ours = our_name(settings, "0")
    facts = facts_with(
        settings,
        client,
        connections=(
            connection(ours, 1),
            connection(ours, 2, url=SAME_HOST),
            connection("yolo-7", 3, url="http://yolo:9090"),
        ),
        hooks=(hook(1, OWN), hook(2, SAME_HOST), hook(3, "http://yolo:9090", headers={})),
    )
    said = fixes._delete_doubles(facts)
    assert client.done == [("webhook", 2), ("connection", 2)]
    assert said == "deleted 2 (http://127.0.0.1:9090)"


def test_the_webhook_of_the_same_address_stays(settings: Settings) -> None:
    client = Writing()
    ours = our_name(settings, "0")
    facts = facts_with(settings, client, connections=(connection(ours, 1), connection(ours, 2)))
    fixes._delete_doubles(facts)
    assert client.done == [("connection", 2)]


def test_a_connection_at_an_address_that_is_only_guessed_is_left_and_said(
    settings: Settings,
) -> None:
    client = Writing()
    ours = our_name(settings, "0")
    facts = facts_with(
        settings,
        client,
        connections=(
            connection(ours, 1, url="http://web:9090"),
            connection(ours, 2, url="http://web:9090"),
            connection("", 3, state="DI"),
        ),
        hooks=(hook(3, OWN),),
    )
    assert facts.ours[-1].id == 3, "taken for ours by its address"
    with pytest.raises(NotYetError, match=r"deleted 2 \(http://web:9090\); left 3 \("):
        fixes._delete_doubles(facts)
    assert client.done == [("connection", 2)]


def test_of_two_webhooks_the_one_that_we_know_stays(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fixes, "_connect", lambda facts: "connected again")
    client = Writing(7)
    facts = facts_with(
        settings, client, hooks=(webhook(5), webhook(6), webhook(7)), record=record(webhook_id=6)
    )
    assert fixes._delete_double_hooks(facts) == "deleted 2 of 3; connected again"
    assert client.done == [("webhook", 5)], "7 is gone already, which is what was wanted"


def test_only_the_webhook_that_we_know_is_stray(settings: Settings) -> None:
    client = Writing()
    facts = facts_with(
        settings,
        client,
        hooks=(
            webhook(1),
            hook(2, "http://old:9090"),
            hook(3, "http://somebody", headers={}),
            hook(4, "http://same-login:9090"),
        ),
        record=record(webhook_id=2),
    )
    assert fixes._delete_stray_hooks(facts) == "deleted http://old:9090/webhook"
    assert client.done == [("webhook", 2)]


def publication(name: str) -> Publication:
    return Publication(
        name=name,
        version="v0001",
        kind="rarefirst",
        state="published",
        created_at=datetime.now(UTC),
    )


def test_the_published_queue_is_put_back(settings: Settings, store: ProjectStore) -> None:
    client = Writing()
    facts = facts_with(settings, client)
    name = our_name(settings)
    store.write("publication.json", Publications(published=publication(name)))
    assert fixes._serve_ours(facts) == f"set to {name}"
    assert client.done == [("project", {"model_version": name})]


def test_nothing_is_put_back_before_the_first_queue(settings: Settings) -> None:
    client = Writing()
    with pytest.raises(NotYetError, match="the loop does it"):
        fixes._serve_ours(facts_with(settings, client))
    assert client.done == []


@pytest.mark.parametrize("waits_for", ["worker", "resume"])
def test_nothing_is_emptied_while_nobody_publishes(
    settings: Settings, store: ProjectStore, waits_for: str
) -> None:
    if waits_for == "resume":
        heartbeat.begin(settings.data_dir, 1)
        store.path("paused").touch()
    client = Writing()
    facts = facts_with(settings, client, predictions={})
    store.write("publication.json", Publications(published=publication("rarefirst-x-v0001-aaaa")))
    with pytest.raises(NotYetError, match=f"it waits until .*{waits_for}"):
        fixes._serve_ours(facts)
    assert client.done == []
    assert store.hinted_at("changed") is not None


def test_a_worker_that_lives_is_waited_for(settings: Settings, store: ProjectStore) -> None:
    heartbeat.begin(settings.data_dir, 1)
    store.write("publication.json", Publications(published=publication("old")))
    facts = facts_with(settings, Writing(), predictions={})

    def publish() -> None:
        time.sleep(0.2)
        store.write("publication.json", Publications(published=publication("new")))

    thread = threading.Thread(target=publish)
    thread.start()
    assert fixes._publish_again(facts) == "published again as new"
    thread.join()
    assert facts.client.done == [("project", {"model_version": ""})]  # type: ignore[attr-defined]


def test_a_worker_that_does_not_publish_is_not_waited_for_ever(
    settings: Settings, store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat.begin(settings.data_dir, 1)
    monkeypatch.setattr(fixes, "_PUBLISHED_WITHIN_S", 0.1)
    store.write("publication.json", Publications(published=publication("old")))
    facts = facts_with(settings, Writing(), predictions={})
    with pytest.raises(NotYetError, match="did not come within"):
        fixes._publish_again(facts)


def test_predictions_are_used_again_and_the_queue_put_back(
    settings: Settings, store: ProjectStore
) -> None:
    client = Writing()
    store.write("publication.json", Publications(published=publication("rarefirst-x-v0001-aaaa")))
    facts = facts_with(settings, client, info=info(show_collab_predictions=False))
    said = fixes._show_predictions(facts)
    assert client.done[0] == ("project", {"show_collab_predictions": True})
    assert said.startswith("switched on; ")


def test_a_sign_of_life_from_the_future_is_deleted(settings: Settings) -> None:
    heartbeat.begin(settings.data_dir, 1)
    mender = Mender(service_facts(settings), dry_run=False)
    found = error("worker.future", "dated in the future", why="", mend="")
    assert mender.mend(found).action == "deleted the sign of life"
    assert heartbeat.stamp(settings.data_dir) is None
    assert mender.mend(found).action == "deleted the sign of life", "done once, and said again"


def test_a_fix_is_for_the_service_or_for_a_project(settings: Settings) -> None:
    for code, fix in FIXES.items():
        assert (fix.service is None) != (fix.project is None), code
    wrong = error("sampling.other", "", why="", mend="")  # of no project
    with pytest.raises(TypeError):
        Mender(service_facts(settings), dry_run=False).mend(wrong)
