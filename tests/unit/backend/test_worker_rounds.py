"""Debounce, one round at a time, no hint forgotten, one broken project not harming others."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from backend.errors import LabelStudioUnavailable, Unauthorized
from backend.jobs import Jobs
from backend.newcomers import Newcomers
from backend.projects import ProjectStore
from backend.rounds import Rounds
from backend.settings import Settings
from backend.status import service_status
from tests.recorded import CREATED_S, PROJECT_ID


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Loop:
    """A reconcile loop that only notes when it ran."""

    def __init__(self) -> None:
        self.rounds: list[tuple[str, str, float]] = []
        self.work: Callable[[], None] = lambda: None
        self.registered: ProjectStore | None = None
        self.error: Exception | None = None
        self.asked = 0
        self.looking: Callable[[], None] = lambda: None

    def discover(self) -> list[ProjectStore]:
        self._fail()
        return []

    def register(self, project_id: int) -> ProjectStore | None:
        self.asked += 1
        self.looking()
        self._fail()
        return self.registered

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    def round(self, store: ProjectStore, *, reason: str) -> bool:
        mark = store.hint_mark("changed")
        self.rounds.append((store.key, reason, time.time()))
        self.work()
        if mark is not None:
            store.take_hint("changed", mark)
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


def settled(rounds: Rounds) -> bool:
    """Wait until every round that was asked for has ended."""
    return rounds.wait_until_idle(10)


def test_a_round_waits_until_hints_calm_down(
    settings: Settings, queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    hinted = time.time()
    rounds.reconcile(store.key)
    assert settled(rounds)
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
        settled(rounds)
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
    assert settled(rounds)
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
    rounds.reconcile(store.key)
    assert entered.wait(10)
    assert not rounds.idle
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    rounds.reconcile(store.key)  # the second message leaves word
    assert len(loop.rounds) == 1
    go_on.set()
    assert settled(rounds)
    assert len(loop.rounds) == 2


def test_a_hint_that_the_running_round_takes_does_not_silence_the_next_one(
    queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        go_on.wait(10)
        mark = store.hint_mark("changed")  # its sync looks only now, and sees both hints
        assert mark is not None
        store.take_hint("changed", mark)

    loop.work = work
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    rounds.reconcile(store.key)
    assert entered.wait(10)
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    rounds.reconcile(store.key)
    go_on.set()
    assert settled(rounds)
    assert len(loop.rounds) == 1
    messages = queue.huey.pending_count()
    queue.hint(PROJECT_ID, CREATED_S, "changed")
    assert queue.huey.pending_count() == messages + 1


def test_hints_at_any_moment_are_seen_by_a_round(
    settings: Settings, loop: Loop, store: ProjectStore
) -> None:
    """Whatever hint comes last, a round begins after it without the timer's help."""
    quick = settings.model_copy(update={"debounce_s": 0.0})
    queue = Jobs(quick)
    rounds = Rounds(queue, loop, stop=threading.Event())
    queue.handler = rounds
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set() or queue.huey.pending_count():
            task = queue.huey.dequeue()
            if task is not None:
                queue.huey.execute(task)

    loop.work = lambda: time.sleep(0.001)
    reading = threading.Thread(target=read)
    reading.start()
    for number in range(150):
        queue.hint(PROJECT_ID, CREATED_S, "changed")
        time.sleep(0.0005 * (number % 7))
    ended.set()
    reading.join(30)
    assert not reading.is_alive()
    assert settled(rounds)
    assert store.hinted_at("changed") is None
    assert len(loop.rounds) >= 2


def test_the_timer_leaves_a_running_round_alone(
    queue: Jobs, rounds: Rounds, loop: Loop, store: ProjectStore
) -> None:
    loop.work = lambda: rounds.due(store, reason="timer")
    rounds.due(store, reason="timer")
    assert settled(rounds)
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
    assert settled(rounds)
    assert "a defect" in caplog.text


def test_a_registered_project_gets_its_first_round(
    queue: Jobs, loop: Loop, store: ProjectStore
) -> None:
    clock = Clock()
    rounds = Rounds(queue, loop, stop=threading.Event(), newcomers=Newcomers(clock=clock))
    rounds.register(PROJECT_ID)
    assert settled(rounds)
    assert loop.rounds == []
    loop.registered = store  # the connection is saved after Label Studio's first /setup
    rounds.register(PROJECT_ID)
    assert settled(rounds)
    assert loop.asked == 1  # the second request waits a little ...
    clock.now += 5
    rounds.look_up()  # ... and is not forgotten
    assert settled(rounds)
    assert loop.asked == 2
    assert [(key, reason) for key, reason, _ in loop.rounds] == [(store.key, "connected")]


def test_a_message_for_a_folder_that_is_gone_does_nothing(rounds: Rounds, loop: Loop) -> None:
    rounds.reconcile("9-0123abcd")
    assert loop.rounds == []


def test_label_studio_being_away_is_one_line(
    rounds: Rounds, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.error = LabelStudioUnavailable("Label Studio does not answer")
    rounds.register(PROJECT_ID)
    assert settled(rounds)
    assert not rounds.search()
    assert rounds.search_failed
    assert caplog.text.count("Label Studio does not answer") == 2
    assert "Traceback" not in caplog.text
    loop.error = None
    assert rounds.search()
    assert not rounds.search_failed


def test_setup_and_register_do_not_feed_each_other(queue: Jobs, loop: Loop) -> None:
    """Label Studio calls /setup while it answers a look-up: at most one a minute, in the end."""
    clock = Clock()
    rounds = Rounds(queue, loop, stop=threading.Event(), newcomers=Newcomers(clock=clock))
    loop.looking = lambda: rounds.register(PROJECT_ID)
    rounds.register(PROJECT_ID)
    for _ in range(600):  # ten minutes of the timer's ticks
        clock.now += 1
        rounds.look_up()
        assert settled(rounds)
    assert 10 <= loop.asked <= 14


def test_asking_after_one_project_does_not_slow_another(queue: Jobs, loop: Loop) -> None:
    newcomers = Newcomers(clock=Clock())
    newcomers.ask(1)
    assert newcomers.due() == [1]
    newcomers.ask(1)
    newcomers.ask(2)
    assert newcomers.due() == [2]
    newcomers.found(1)
    newcomers.ask(1)
    assert newcomers.due() == [1]


def test_a_search_says_in_a_file_how_it_went(
    settings: Settings, rounds: Rounds, loop: Loop
) -> None:
    loop.error = Unauthorized("Label Studio does not accept the token", status=401)
    rounds.search()
    assert service_status(settings).label_studio == "Label Studio does not accept the token"
    loop.error = None
    rounds.search()
    status = service_status(settings)
    assert status.label_studio == "reachable"
    assert status.searched_at is not None


def test_what_waits_for_a_thread_is_dropped_when_the_worker_ends(
    settings: Settings, loop: Loop, store: ProjectStore
) -> None:
    queue = Jobs(settings.model_copy(update={"worker_threads": 1}))
    stop, entered, go_on = threading.Event(), threading.Event(), threading.Event()
    rounds = Rounds(queue, loop, stop=stop)

    def work() -> None:
        entered.set()
        go_on.wait(10)

    loop.work = work
    other = queue.stores.create(8, CREATED_S, "other")
    rounds.due(store, reason="timer")
    assert entered.wait(10)
    rounds.due(other, reason="timer")
    stop.set()
    rounds.close()
    go_on.set()
    assert rounds.wait_until_idle(10)
    assert [key for key, _, _ in loop.rounds] == [store.key]
