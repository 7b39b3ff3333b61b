"""Queue, worker and web part, each in every state."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from backend import heartbeat
from backend.doctor import processes
from backend.doctor.facts import ServiceFacts
from backend.jobs import Jobs
from backend.projects import ProjectStore
from backend.settings import Settings
from demo.ports import free_port
from tests.unit.backend.doctor.known import LOGIN, service_facts, severities
from tests.unit.backend.labelstudio.local_http import Answer, Request, Server

Serve = Callable[[Callable[[Request], Answer]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(reply: Callable[[Request], Answer]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_a_queue_that_is_not_there_yet(settings: Settings) -> None:
    assert severities(processes.queue(service_facts(settings))) == {"queue.new": "note"}


def test_a_queue_in_order(settings: Settings) -> None:
    Jobs(settings)
    assert severities(processes.queue(service_facts(settings))) == {}


def test_a_queue_that_is_no_database(settings: Settings) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "queue.db").write_bytes(b"not a database at all" * 100)
    assert severities(processes.queue(service_facts(settings))) == {"queue.unreadable": "error"}


def test_many_messages_are_a_backlog(settings: Settings) -> None:
    Jobs(settings)
    with sqlite3.connect(settings.data_dir / "queue.db") as database:
        database.executemany(
            "insert into task (queue, data, priority) values ('rarefirst', ?, 0)", [(b"x",)] * 60
        )
    database.close()
    assert severities(processes.queue(service_facts(settings))) == {"queue.backlog": "warning"}


def test_an_old_hint_is_a_backlog_unless_its_round_runs(
    settings: Settings, store: ProjectStore
) -> None:
    Jobs(settings)
    store.hint("changed")
    long_ago = time.time() - 3600
    os.utime(store.path("hints", "changed"), (long_ago, long_ago))
    assert severities(processes.queue(service_facts(settings))) == {"queue.backlog": "warning"}
    store.note("bootstrap", 1, 2)
    assert severities(processes.queue(service_facts(settings))) == {}


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (None, {"worker.absent": "error"}),
        (1.0, {}),
        (60.0, {"worker.silent": "error"}),
        (-600.0, {"worker.future": "error"}),
    ],
)
def test_the_worker(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    age_s: float | None,
    expected: dict[str, str],
) -> None:
    monkeypatch.setattr(processes, "_BEATS_S", 0.01)
    if age_s is not None:
        heartbeat.begin(settings.data_dir, 4711)
        at = time.time() - age_s
        os.utime(settings.data_dir / "worker.heartbeat", (at, at))
    assert severities(processes.worker(service_facts(settings))) == expected


def test_a_worker_that_beats_outlives_a_clock_that_was_set_back(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat.begin(settings.data_dir, 4711)
    at = time.time() + 600
    os.utime(settings.data_dir / "worker.heartbeat", (at, at))
    monkeypatch.setattr(
        processes.time, "sleep", lambda seconds: heartbeat.beat(settings.data_dir, 4711)
    )
    assert severities(processes.worker(service_facts(settings))) == {}


def web(settings: Settings, url: str, **fields: object) -> ServiceFacts:
    port = urlsplit(url).port
    own = {"own_url": url, "port": port, "host": "127.0.0.1", **fields}
    return service_facts(settings, settings=own)


def rarefirst(prefix: str, *, open_to_all: bool = False) -> Callable[[Request], Answer]:
    """A web part that asks for a login, and answers with versions of a data directory."""

    def reply(request: Request) -> Answer:
        if request.path == "/health":
            return Answer(200, {"status": "UP", "model_class": "RareFirst"})
        if not open_to_all and "authorization" not in request.headers:
            return Answer(401, {"error": {}})
        return Answer(200, {"versions": [prefix + "v0001-abcd"]})

    return reply


def test_the_web_part_is_ours(settings: Settings, serve: Serve) -> None:
    prefix = service_facts(settings).own_prefix
    assert severities(processes.web(web(settings, serve(rarefirst(prefix)).url))) == {}


def test_nobody_answers(settings: Settings) -> None:
    facts = web(settings, f"http://127.0.0.1:{free_port()}")
    assert severities(processes.web(facts)) == {"web.absent": "error"}


def test_another_program_answers(settings: Settings, serve: Serve) -> None:
    for body in ({"status": "UP"}, b"<html>", [1]):
        url = serve(lambda request, body=body: Answer(200, body)).url  # type: ignore[misc]
        found = severities(processes.web(web(settings, url)))
        assert found == {"web.other_program": "error"}


def test_a_rarefirst_with_another_data_directory(settings: Settings, serve: Serve) -> None:
    facts = web(settings, serve(rarefirst("rarefirst-000000-")).url)
    assert severities(processes.web(facts)) == {"web.other_service": "error"}


def test_a_rarefirst_with_another_password(settings: Settings, serve: Serve) -> None:
    def reply(request: Request) -> Answer:
        known = request.path == "/health"
        return Answer(200, {"model_class": "rarefirst"}) if known else Answer(401, {})

    assert severities(processes.web(web(settings, serve(reply).url))) == {"web.login": "error"}


def test_a_web_part_that_hangs_is_not_taken_for_another_password(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_WAIT_S", (0.2, 0.2))

    def reply(request: Request) -> Answer:
        if request.path != "/health":
            time.sleep(0.6)
        return Answer(200, {"model_class": "rarefirst", "versions": []})

    found = severities(processes.web(web(settings, serve(reply).url)))
    assert found == {"web.no_answer": "warning"}


def test_a_rarefirst_under_a_server_that_lists_no_versions(
    settings: Settings, serve: Serve
) -> None:
    def reply(request: Request) -> Answer:
        known = request.path == "/health"
        return Answer(200, {"model_class": "RareFirst"}) if known else Answer(404, b"<html>")

    assert severities(processes.web(web(settings, serve(reply).url))) == {"web.no_versions": "note"}


def test_a_rarefirst_that_asks_for_no_password(settings: Settings, serve: Serve) -> None:
    prefix = service_facts(settings).own_prefix
    facts = web(settings, serve(rarefirst(prefix, open_to_all=True)).url)
    assert severities(processes.web(facts)) == {"web.open": "warning"}


def test_an_address_that_only_label_studio_reaches(settings: Settings, serve: Serve) -> None:
    prefix = service_facts(settings).own_prefix
    here = serve(rarefirst(prefix)).url
    facts = web(settings, here, own_url=f"http://127.0.0.1:{free_port()}")
    assert severities(processes.web(facts)) == {"web.elsewhere": "note"}


def test_the_password_is_not_in_what_is_said(settings: Settings, serve: Serve) -> None:
    facts = web(settings, f"http://{LOGIN[0]}:{LOGIN[1]}@127.0.0.1:{free_port()}")
    assert all(LOGIN[1] not in found.model_dump_json() for found in processes.web(facts))
