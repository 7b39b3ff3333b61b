"""Debounce, one round at a time, no hint forgotten, one broken project not harming others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from backend.errors import LabelStudioUnavailable
from backend.jobs import Jobs
from backend.projects import ProjectStore
from backend.rounds import Rounds
from backend.settings import Settings
from tests.recorded import CREATED_S, PROJECT_ID


class Loop:
    """A reconcile loop that only notes when it ran."""

    def __init__(self) -> None:
        self.rounds: list[tuple[str, str, float]] = []
        self.work: Callable[[], None] = lambda: None
        self.registered: ProjectStore | None = None
        self.error: Exception | None = None

    def discover(self) -> list[ProjectStore]:
        self._fail()
        return []

    def register(self, project_id: int) -> ProjectStore | None:
        self._fail()
        return self.registered

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def round(self, store: ProjectStore, *, reason: str) -> bool:
        seen = time.time()
        self.rounds.append((store.key, reason, seen))
        self.work()
        store.take_hint("changed", seen)
        return True


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def queue(settings: Settings) -> Jobs:
    return Jobs(settings)


@pytest.fixture
def rounds(queue: Jobs, loop: Loop) -> Rounds:
    return Rounds(queue, loop, stop=threading.Event())


def test_a_round_waits_until_hints_calm_down(
    settings: Settings, queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    hinted = time.time()
    rounds.reconcile(store.key)
    ((_, reason, began),) = loop.rounds
    assert reason == "hint"
    assert began - hinted >= settings.debounce_s - 0.03


def test_hints_that_never_calm_down_delay_a_round_only_so_long(
    settings: Settings, queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    done = threading.Event()

    def keep_hinting() -> None:
        while not done.wait(0.02):
            queue.hint(PROJECT_ID, CREATED_S, "changed")

    queue.hint(PROJECT_ID, CREATED_S, "changed")
    first = time.time()
    hinting = threading.Thread(target=keep_hinting)
    hinting.start()
    try:
        rounds.reconcile(store.key)
    finally:
        done.set()
        hinting.join()
    delay = loop.rounds[0][2] - first
    assert settings.debounce_s < delay < settings.debounce_max_s + 0.4


def test_a_thousand_hints_make_one_round(
    queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    for _ in range(1000):
        queue.hint(PROJECT_ID, CREATED_S, "changed")
    queue.handler = rounds
    while (task := queue.huey.dequeue()) is not None:
        queue.huey.execute(task)
    assert len(loop.rounds) == 1


def test_a_hint_during_a_round_is_seen_by_another_round(
    queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        go_on.wait(10)

    loop.work = work
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    running = threading.Thread(target=rounds.reconcile, args=(store.key,))
    running.start()
    assert entered.wait(10)
    assert not rounds.idle
    time.sleep(0.02)
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    rounds.reconcile(store.key)  # another thread's message: returns, leaves word
    assert len(loop.rounds) == 1
    go_on.set()
    running.join(10)
    assert len(loop.rounds) == 2
    assert rounds.idle


def test_the_timer_leaves_a_running_round_alone(
    queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    loop.work = lambda: rounds.due(store, reason="timer")
    rounds.due(store, reason="timer")
    assert [reason for _, reason, _ in loop.rounds] == ["timer"]


def test_a_defect_in_one_round_ends_only_that_round(
    queue: Jobs, loop: Loop, store: ProjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    rounds = Rounds(queue, loop, stop=stop)

    def work() -> None:
        stop.set()  # no pause in the test
        raise RuntimeError("a defect")

    loop.work = work
    rounds.due(store, reason="timer")
    assert rounds.idle
    assert "a defect" in caplog.text


def test_a_registered_project_gets_its_first_round(
    rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    rounds.register(PROJECT_ID)
    assert loop.rounds == []
    loop.registered = store
    rounds.register(PROJECT_ID)
    assert [(key, reason) for key, reason, _ in loop.rounds] == [(store.key, "connected")]


def test_a_message_for_a_folder_that_is_gone_does_nothing(rounds: Rounds, loop: Loop) -> None:
    rounds.reconcile("9-0123abcd")
    assert loop.rounds == []


def test_label_studio_being_away_is_one_line(
    rounds: Rounds, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.error = LabelStudioUnavailable("Label Studio does not answer")
    rounds.register(PROJECT_ID)
    assert not rounds.search()
    assert caplog.text.count("Label Studio does not answer") == 2
    assert "Traceback" not in caplog.text
    loop.error = None
    assert rounds.search()
