"""The queue: cheap, coalesced, and never the only place where something is written."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

import pytest

from backend.jobs import Jobs
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.recorded import CREATED_S, PROJECT_ID


class Recorder(Protocol):
    calls: list[tuple[str, object]]


def test_a_hint_is_written_down_and_sent(
    jobs: Jobs, store: ProjectStore, recorder: Recorder
) -> None:
    found = jobs.hint(PROJECT_ID, CREATED_S, "deleted")
    assert found is not None
    assert found.key == store.key
    assert store.hinted_at("deleted") is not None
    assert recorder.calls == [("reconcile", store.key)]


def test_a_burst_of_hints_is_one_message(
    jobs: Jobs, store: ProjectStore, recorder: Recorder
) -> None:
    for _ in range(1000):
        jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert recorder.calls == [("reconcile", store.key)]


def test_a_hint_after_the_round_began_is_another_message(
    jobs: Jobs, store: ProjectStore, recorder: Recorder
) -> None:
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    jobs.started(store.key)
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert len(recorder.calls) == 2


def test_a_lost_message_is_sent_again(
    settings: Settings, jobs: Jobs, store: ProjectStore, recorder: Recorder
) -> None:
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    long_ago = time.time() - 3600
    os.utime(settings.data_dir / "queued" / store.key, (long_ago, long_ago))
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert len(recorder.calls) == 2


def test_a_project_that_is_not_known_is_asked_after(jobs: Jobs, recorder: Recorder) -> None:
    assert jobs.hint(77, CREATED_S, "changed") is None
    assert recorder.calls == [("register", 77)]


def test_the_same_id_of_a_rebuilt_database_is_another_project(
    jobs: Jobs, store: ProjectStore, recorder: Recorder
) -> None:
    assert jobs.hint(PROJECT_ID, CREATED_S + 1, "changed") is None
    assert store.hinted_at("changed") is None


def test_messages_reach_another_process_through_the_file(
    settings: Settings, store: ProjectStore, recorder: Recorder
) -> None:
    writer = Jobs(settings)
    writer.hint(PROJECT_ID, CREATED_S, "changed")
    writer.register(5)
    writer.discover()
    reader = Jobs(settings, handler=recorder)  # type: ignore[arg-type]
    while (task := reader.huey.dequeue()) is not None:
        reader.huey.execute(task)
    assert sorted(recorder.calls, key=str) == [
        ("discover", None),
        ("reconcile", store.key),
        ("register", 5),
    ]


def test_a_queue_that_is_no_database_is_set_aside(
    settings: Settings, store: ProjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    (settings.data_dir / "queue.db").write_bytes(b"torn" * 2000)
    jobs = Jobs(settings)
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert jobs.huey.pending_count() == 1
    assert len(list(settings.data_dir.glob("queue.db.unreadable-*"))) == 1
    assert "set aside" in caplog.text


def test_a_queue_that_refuses_loses_no_hint(
    settings: Settings, store: ProjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = Jobs(settings)
    jobs.huey.storage.sql("drop table task", commit=True)
    jobs.hint(PROJECT_ID, CREATED_S, "force_fit")
    assert store.hinted_at("force_fit") is not None
    assert "refused 'reconcile'" in caplog.text


def test_a_disk_that_is_full_keeps_nobody_waiting(
    settings: Settings,
    store: ProjectStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs = Jobs(settings)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    monkeypatch.setattr("backend.jobs.os.open", full)
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert "No space left on device; the timer looks" in caplog.text
    monkeypatch.undo()
    assert store.hinted_at("changed") is None
    assert jobs.huey.pending_count() == 1, "the message says enough"


def test_a_marker_from_the_future_keeps_no_message_back(
    settings: Settings, store: ProjectStore
) -> None:
    jobs = Jobs(settings)
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    marker = settings.data_dir / "queued" / store.key
    later = time.time() + 3600  # the clock jumped back by an hour since
    os.utime(marker, (later, later))
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert jobs.huey.pending_count() == 2


def test_a_worker_that_starts_forgets_old_messages(
    settings: Settings, store: ProjectStore, recorder: Recorder
) -> None:
    jobs = Jobs(settings)
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    jobs.reset()
    assert jobs.huey.pending_count() == 0
    jobs.hint(PROJECT_ID, CREATED_S, "changed")
    assert jobs.huey.pending_count() == 1
