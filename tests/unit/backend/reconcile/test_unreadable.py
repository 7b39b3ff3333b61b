"""Images that cannot be read: who tries them again and when, and that nobody waits for them."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backend.errors import MediaError
from backend.projects import ProjectStore
from backend.reconcile.actions import embed
from backend.reconcile.actions.embed import failed_again
from backend.reconcile.loop import Reconciler
from backend.reconcile.state import Failures
from tests.unit.backend.reconcile.fake_label_studio import FakeLabelStudio, picture
from tests.unit.backend.reconcile.rounds import Start, report, run, served, squares, starter

HANGING = "http://hangs.test/{}.png"
NO_IMAGE = "data:image/png;base64," + base64.b64encode(b"<html>log in</html>").decode()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(embed, "_now", made)
    return made


@pytest.fixture
def label_studio() -> FakeLabelStudio:
    """30 squares, 3 of them blue; 12 labeled."""
    return squares(30, blue=(3, 17, 25), labeled=12)


@pytest.fixture
def start(tmp_path: Path, label_studio: FakeLabelStudio) -> Start:
    return starter(label_studio, tmp_path, top_k=8, tail_min_labels=6, fetch_timeout_s=0.3)


def failures(store: ProjectStore) -> Failures:
    return store.read("failures.json", Failures) or Failures()


class Images:
    """Instead of the network: addresses of hangs.test are asked of this."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.asked: list[str] = []
        self.answer: Callable[[str], str] = self.silent
        self._fetch = reconciler.media.fetch
        reconciler.media.fetch = self  # type: ignore[method-assign, assignment]

    def silent(self, uri: str) -> str:
        raise MediaError("no answer in time from hangs.test", retryable=True)

    def __call__(self, uri: str, *, task_id: int, project_key: str) -> bytes:
        if uri.startswith("http://hangs.test"):
            self.asked.append(uri)
            uri = self.answer(uri)
        return self._fetch(uri, task_id=task_id, project_key=project_key)


def test_pauses_double_to_a_day_and_final_ones_wait_a_day() -> None:
    known = None
    pauses = []
    for _ in range(2000):
        known = failed_again(known, reason="r", digest="d", image="i", retryable=True, now=1000.0)
        pauses.append(known.next_try_s - 1000.0)
    assert pauses[:4] == [60, 120, 240, 480]
    assert pauses[10] == 61_440
    assert set(pauses[11:]) == {86_400}
    assert known is not None
    assert known.tries == 2000
    final = failed_again(None, reason="r", digest="d", image="i", retryable=False, now=1000.0)
    assert final.next_try_s == 1000.0 + 86_400
    moved = failed_again(known, reason="r", digest="other", image="i", retryable=True, now=1000.0)
    assert (moved.tries, moved.next_try_s) == (1, 1060.0)


def test_an_image_is_tried_when_it_is_due_and_then_judged(
    start: Start, label_studio: FakeLabelStudio, clock: Clock
) -> None:
    reconciler = start()
    images = Images(reconciler)
    task = label_studio.add_task("blue", uri=HANGING.format(1) + "?signature=secret")
    store = run(reconciler)
    assert report(store).failed == {"no answer in time from hangs.test": 1}
    kept = failures(store).by_task[task]
    assert (kept.tries, kept.next_try_s) == (1, clock.now + 60)
    assert kept.image == HANGING.format(1)
    queue = served(store)
    assert task not in queue.task_ids, "it keeps the last place: Label Studio serves it last"

    for waited, tries in ((59, 1), (2, 2), (118, 2), (3, 3)):
        clock.now += waited
        run(reconciler)
        assert (failures(store).by_task[task].tries, len(images.asked)) == (tries, tries)
    images.answer = lambda uri: picture("blue", 1)
    clock.now += 241
    run(reconciler)
    assert failures(store).by_task == {}
    assert report(store).failed == {}
    assert report(store).embedded == 31


def test_final_ones_are_tried_once_a_day_and_at_once_with_other_settings(
    start: Start, label_studio: FakeLabelStudio, clock: Clock
) -> None:
    reconciler = start()
    task = label_studio.add_task("blue", uri="http://images.test/a.png")
    odd = label_studio.add_task("red", uri=NO_IMAGE)
    store = run(reconciler)
    assert {failure.tries for failure in failures(store).by_task.values()} == {1}
    clock.now += 80_000
    run(reconciler)
    assert failures(store).by_task[task].tries == 1
    clock.now += 10_000
    run(reconciler)
    assert failures(store).by_task[task].tries == 2

    # The host is allowed now: due at once, whatever the pause; so is everything else, once.
    again = start(allowed_hosts=("images.test",))
    fetch = again.media.fetch
    asked = []

    def found(uri: str, *, task_id: int, project_key: str) -> bytes:
        asked.append(task_id)
        instead = picture("blue", 1) if task_id == task else uri
        return fetch(instead, task_id=task_id, project_key=project_key)

    again.media.fetch = found  # type: ignore[method-assign]
    run(again)
    assert sorted(asked) == [task, odd]
    assert set(failures(store).by_task) == {odd}
    assert failures(store).by_task[odd].tries == 1
    run(again)
    assert sorted(asked) == [task, odd]


def test_another_address_is_tried_at_once_and_a_deleted_task_is_forgotten(
    start: Start, label_studio: FakeLabelStudio, clock: Clock
) -> None:
    reconciler = start()
    moved = label_studio.add_task("blue", uri=NO_IMAGE)
    gone = label_studio.add_task("blue", uri=NO_IMAGE)
    store = run(reconciler)
    assert set(failures(store).by_task) == {moved, gone}
    row = label_studio.task_rows[moved]
    label_studio.task_rows[moved] = row.model_copy(
        update={"data": {"image": picture("blue", 5)}, "updated_at": label_studio.tick()}
    )
    label_studio.delete_task(gone)
    store.hint("deleted")
    run(reconciler)
    assert failures(store).by_task == {}
    assert report(store).embedded == 31


def test_labeled_images_that_cannot_be_read_do_not_block_fits(
    start: Start, label_studio: FakeLabelStudio, clock: Clock
) -> None:
    reconciler = start()
    images = Images(reconciler)
    broken = [label_studio.add_task("red", uri=HANGING.format(n)) for n in range(5)]
    store = run(reconciler)
    first = served(store)
    for task in broken:
        label_studio.annotate(task)
    store.hint("changed")
    asked = len(images.asked)
    run(reconciler)
    queue = served(store)
    assert queue.version != first.version, "fitted without them"
    assert len(images.asked) == asked, "they are not due"
    assert report(store).labels_since_fit == 0


def test_a_thousand_failing_tasks_starve_nobody_and_fill_no_log(
    start: Start,
    label_studio: FakeLabelStudio,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reconciler = start(embed_chunk=200)
    images = Images(reconciler)
    bad = [label_studio.add_task("red", uri=HANGING.format(n)) for n in range(1000)]
    with caplog.at_level(logging.WARNING):
        store = run(reconciler)
        assert set(failures(store).by_task) == set(bad)
        assert len(caplog.records) <= 7, "one line a chunk"
        queue = served(store)
        assert len(queue.task_ids) == 8
        caplog.clear()
        clock.now += 61
        good = label_studio.add_task("blue")
        label_studio.annotate(good)
        store.hint("changed")
        seen: list[int] = []
        images.answer = lambda uri: (seen.append(report(store).embedded), images.silent(uri))[1]
        run(reconciler)
        assert min(seen) == 31, "the new image came first"
        assert not caplog.records, "nothing new is said of them"
    assert len(images.asked) == 2000
    assert report(store).failed == {"no answer in time from hangs.test": 1000}


def test_an_image_that_hangs_does_not_keep_a_hint_waiting(
    start: Start, label_studio: FakeLabelStudio, clock: Clock
) -> None:
    reconciler = start(fetch_threads=2)
    images = Images(reconciler)
    for n in range(6):
        label_studio.add_task("red", uri=HANGING.format(n))
    store = run(reconciler)
    clock.now += 61
    hanging, release = threading.Event(), threading.Event()

    def hang(uri: str) -> str:
        hanging.set()
        release.wait(30)
        return images.silent(uri)

    images.answer = hang
    worker = threading.Thread(target=run, args=(reconciler,))
    worker.start()
    try:
        assert hanging.wait(20)
        began = time.monotonic()
        store.hint("changed")
        worker.join(20)
        assert not worker.is_alive(), "the round gives way"
        assert time.monotonic() - began < 5
    finally:
        release.set()
        worker.join(30)


def test_a_defect_in_one_image_is_that_images_trouble(
    start: Start, label_studio: FakeLabelStudio, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    reconciler = start()
    images = Images(reconciler)
    task = label_studio.add_task("red", uri=HANGING.format(1))

    def defect(uri: str) -> str:
        raise ZeroDivisionError("ours")

    images.answer = defect
    store = run(reconciler)
    assert store.publications().published is not None
    assert "ZeroDivisionError" in failures(store).by_task[task].reason
    assert "ours" in caplog.text


def test_a_damaged_image_is_fetched_anew(
    start: Start, label_studio: FakeLabelStudio, clock: Clock
) -> None:
    reconciler = start()
    images = Images(reconciler)
    task = label_studio.add_task("blue", uri=HANGING.format(1))
    whole = base64.b64decode(picture("blue", 2).partition(",")[2])
    half = "data:image/png;base64," + base64.b64encode(whole[:-200]).decode()
    images.answer = lambda uri: half
    forgotten = []
    reconciler.media.forget = lambda uri, *, project_key: forgotten.append(uri)  # type: ignore[method-assign]
    store = run(reconciler)
    assert "cut off" in failures(store).by_task[task].reason
    assert forgotten == [HANGING.format(1)]
    images.answer = lambda uri: picture("blue", 2)
    clock.now += 61
    run(reconciler)
    assert failures(store).by_task == {}


def test_what_could_not_be_read_is_parsed_once_for_each_writing(
    start: Start, label_studio: FakeLabelStudio, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconciler = start()
    tasks = [label_studio.add_task("red", uri=NO_IMAGE) for _ in range(3)]
    reads: list[str] = []
    read = ProjectStore.read

    def counted(self: ProjectStore, name: str, model: type[Any]) -> Any:
        reads.append(name)
        return read(self, name, model)

    monkeypatch.setattr(ProjectStore, "read", counted)
    store = run(reconciler)
    assert store.path("failures.json").exists()
    store.hint("changed")
    run(reconciler)
    assert "failures.json" not in reads, "the process knows what it wrote"

    run(again := start())
    for _ in range(2):
        store.hint("changed")
        run(again)
    assert reads.count("failures.json") == 1, "another process reads it once"
    assert set(failures(store).by_task) == set(tasks)

    reads.clear()
    kept = failures(store)
    store.write("failures.json", kept.model_copy(update={"by_task": {}}))
    run(again)
    assert set(failures(store).by_task) == set(tasks), "what somebody else wrote counts: all anew"
