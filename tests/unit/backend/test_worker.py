"""The worker: hints lead to rounds at once, the timer leads to rounds anyway."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend import heartbeat
from backend.errors import LabelStudioUnavailable
from backend.jobs import Jobs
from backend.projects import ProjectStore, ProjectStores
from backend.settings import Settings
from backend.worker import Worker
from tests.recorded import CREATED_S, PROJECT_ID


class Loop:
    """Notes what was asked of it."""

    def __init__(self, stores: ProjectStores) -> None:
        self.stores = stores
        self.rounds: list[tuple[str, str]] = []
        self.discovered = 0
        self.changed = threading.Condition()
        self.error: Exception | None = None
        self.slow: set[str] = set()
        self.search_hangs = False
        self.go_on = threading.Event()

    def discover(self) -> list[ProjectStore]:
        if self.search_hangs:
            self.go_on.wait(20)
        with self.changed:
            self.discovered += 1
            self.changed.notify_all()
        if self.error is not None:
            raise self.error
        return self.stores.all()

    def register(self, project_id: int) -> ProjectStore | None:
        return self.stores.create(project_id, CREATED_S, "new")

    def round(self, store: ProjectStore, *, reason: str) -> bool:
        with self.changed:
            self.rounds.append((store.key, reason))
            self.changed.notify_all()
        if store.key in self.slow:
            self.go_on.wait(20)
        return True

    def wait_for(self, reason: str, key: str, seconds: float = 10.0) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: (key, reason) in self.rounds, seconds)


@pytest.fixture
def loop(settings: Settings) -> Loop:
    return Loop(ProjectStores(settings.data_dir, settings.label_studio_url))


@pytest.fixture
def running(settings: Settings, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """A worker in a thread; signals belong to the main thread, so they are left out."""
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.1)
    worker = Worker(settings, Jobs(settings), loop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    while heartbeat.heartbeat_age_s(settings.data_dir) is None:
        time.sleep(0.01)
    yield Jobs(settings)  # as the web process has it
    began = time.monotonic()
    worker.stop()
    thread.join(15)
    assert not thread.is_alive()
    assert time.monotonic() - began < 8
    assert heartbeat.heartbeat_age_s(settings.data_dir) is None


def test_a_hint_leads_to_a_round_after_the_debounce(
    running: Jobs, loop: Loop, store: ProjectStore
) -> None:
    began = time.monotonic()
    running.hint(PROJECT_ID, CREATED_S, "changed")
    assert loop.wait_for("hint", store.key)
    # The debounce of these settings is 0.15 s; the queue is looked at five times a second.
    assert time.monotonic() - began < 3


def test_a_new_project_gets_a_first_round(running: Jobs, loop: Loop) -> None:
    running.register(42)
    key = loop.stores.key(42, CREATED_S)
    assert loop.wait_for("connected", key)


def test_the_heart_beats(running: Jobs, settings: Settings, loop: Loop) -> None:
    time.sleep(0.5)
    age = heartbeat.heartbeat_age_s(settings.data_dir)
    assert age is not None
    assert age < 0.4


def test_the_timer_needs_no_hint(
    settings: Settings, store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    quick = settings.model_copy(update={"timer_s": 0.2, "discover_s": 0.5})
    loop = Loop(ProjectStores(settings.data_dir, settings.label_studio_url))
    loop.error = OSError("Label Studio is away")  # the timer goes on
    paused = loop.stores.create(8, CREATED_S, "paused")
    paused.path("paused").touch()
    worker = Worker(quick, Jobs(quick), loop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        with loop.changed:
            assert loop.changed.wait_for(lambda: len(loop.rounds) >= 3, 10)
            assert loop.changed.wait_for(lambda: loop.discovered >= 2, 10)
    finally:
        worker.stop()
        thread.join(15)
    assert set(loop.rounds) == {(store.key, "timer")}


@contextlib.contextmanager
def at_work(settings: Settings, loop: Loop) -> Iterator[Jobs]:
    """A worker in a thread; rounds that hang are let go at the end."""
    worker = Worker(settings, Jobs(settings), loop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        while heartbeat.heartbeat_age_s(settings.data_dir) is None:
            time.sleep(0.01)
        yield Jobs(settings)
    finally:
        loop.go_on.set()
        worker.stop()
        thread.join(15)
    assert not thread.is_alive()


@pytest.mark.parametrize("slow", [1, 8])
def test_a_long_round_of_one_project_keeps_no_thread_from_another(
    settings: Settings, loop: Loop, store: ProjectStore, monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    quick = settings.model_copy(update={"timer_s": 0.2, "debounce_s": 0.0})
    others = [loop.stores.create(100 + number, CREATED_S, "large") for number in range(slow)]
    loop.slow = {other.key for other in others}
    with at_work(quick, loop) as jobs:
        for other in others:
            assert loop.wait_for("timer", other.key)
        for number in range(3 * slow):  # messages of busy projects hold nothing either
            assert jobs.hint(100 + number % slow, CREATED_S, "changed") is not None
            time.sleep(0.02)
        jobs.hint(PROJECT_ID, CREATED_S, "changed")
        assert loop.wait_for("hint", store.key, 5)
        with loop.changed:
            loop.rounds.clear()
        assert loop.wait_for("timer", store.key, 5)


def test_a_search_that_hangs_keeps_no_round_waiting(
    settings: Settings, loop: Loop, store: ProjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    loop.search_hangs = True
    with at_work(settings.model_copy(update={"timer_s": 0.2}), loop):
        assert loop.wait_for("timer", store.key, 5)
        assert loop.discovered == 0


def test_the_timer_outlives_a_disk_that_fails(
    settings: Settings,
    loop: Loop,
    store: ProjectStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    all_stores, failures = ProjectStores.all, iter([OSError(5, "Input/output error")])

    def fails_once(stores: ProjectStores) -> list[ProjectStore]:
        error = next(failures, None)
        if error is not None:
            raise error
        return all_stores(stores)

    monkeypatch.setattr(ProjectStores, "all", fails_once)
    loop.error = LabelStudioUnavailable("away")  # its search does not ask for the stores
    with at_work(settings.model_copy(update={"timer_s": 0.2}), loop):
        assert loop.wait_for("timer", store.key, 5)
    assert "the timer failed; it goes on" in caplog.text


def test_the_worker_outlives_a_disk_that_may_only_be_read(
    settings: Settings,
    loop: Loop,
    store: ProjectStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(heartbeat, "HEARTBEAT_S", 0.05)
    beats = []

    def refused(data_dir: Path, pid: int) -> None:
        beats.append(pid)
        raise OSError(30, "Read-only file system")

    with at_work(settings.model_copy(update={"timer_s": 0.2}), loop):
        monkeypatch.setattr(heartbeat, "beat", refused)
        assert loop.wait_for("timer", store.key, 5)
        while len(beats) < 4:
            time.sleep(0.02)
    said = [record for record in caplog.records if "cannot be written" in record.message]
    assert len(said) == 1, "once, not with every beat"
    assert "Read-only file system" in said[0].message


def test_without_settings_it_stays_up_and_says_what_is_missing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)
    bare = settings.model_copy(update={"label_studio_api_key": ""})
    worker = Worker(bare, Jobs(bare), None)
    thread = threading.Thread(target=worker.run)
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    worker.stop()
    thread.join(15)
    assert not thread.is_alive()
    assert "LABEL_STUDIO_API_KEY is not set: nothing is read or published" in caplog.text
