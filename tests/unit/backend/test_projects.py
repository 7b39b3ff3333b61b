"""The project store: atomic files, hints, locks."""

from __future__ import annotations

import itertools
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from backend.errors import Busy
from backend.files import thin_lines
from backend.projects import (
    ProjectCard,
    ProjectStore,
    ProjectStores,
    Publication,
    Publications,
    PublishedScores,
)
from backend.reports import RoundEntry


def test_stores_are_kept_apart_by_server_id_and_creation_time(tmp_path: Path) -> None:
    ours = ProjectStores(tmp_path, "http://ls:8080")
    other = ProjectStores(tmp_path, "http://other:8080")
    first = ours.create(1, 100, "old")
    second = ours.create(1, 200, "rebuilt database")
    foreign = other.create(1, 300, "another server")
    assert len({first.key, second.key, foreign.key}) == 3
    found = ours.find(1)
    assert found is not None
    assert found.key == second.key
    exact = ours.find(1, 100)
    assert exact is not None
    assert exact.key == first.key
    assert ours.find(2) is None
    assert [store.key for store in ours.all()] == sorted([first.key, second.key])


def test_unreadable_json_is_taken_as_absent(tmp_path: Path) -> None:
    store = ProjectStores(tmp_path, "u").create(1, 1, "t")
    store.path("publication.json").write_text('{"published": 7')
    assert store.publications() == Publications()
    store.path("project.json").write_bytes(b"\xff\xfe")
    assert store.card is None


def test_publications_round_trip(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path)
    publication = Publication(
        name="rarefirst-v0001-a1",
        version="v0001",
        kind="rarefirst",
        state="published",
        created_at=datetime.now(UTC),
        task_ids=(3, 1, 2),
    )
    store.write("publication.json", Publications(published=publication, leftovers=("x",)))
    assert store.publications().published == publication
    assert store.publications().leftovers == ("x",)


def test_published_scores_round_trip(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path)
    folder = store.path("publications", "n")
    folder.mkdir(parents=True)
    PublishedScores(
        ids=np.array([5, 7, 9]),
        rarity=np.array([0.1, 0.9, 0.5]),
        predicted=np.array([0, 1, 0]),
        confidence=np.array([0.6, 0.7, 0.8]),
        classes=("a", "b"),
        queue=np.array([7, 9]),
        reasons=("tail b", "control"),
    ).save(folder)
    scores = store.published_scores("n")
    assert scores is not None
    row = scores.row(7)
    assert row is not None
    assert round(float(scores.rarity[row]), 5) == 0.9
    assert scores.reasons == {7: "tail b", 9: "control"}
    assert scores.row(8) is None
    assert scores.boxes is None, "an older release's file, or an order without boxes"
    (folder / "scores.npz").write_bytes(b"torn")
    assert store.published_scores("n") is None


def test_published_boxes_round_trip(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path)
    folder = store.path("publications", "n")
    folder.mkdir(parents=True)
    boxes = np.zeros((2, 3, 6))
    boxes[1, 0] = 0.1, 0.2, 0.3, 0.4, 1, 0.9
    PublishedScores(
        ids=np.array([5, 7]),
        rarity=np.array([0.1, 0.9]),
        predicted=np.array([0, 1]),
        confidence=np.array([0.0, 0.9]),
        classes=("a", "b"),
        queue=np.array([7]),
        reasons=("tail b",),
        boxes=boxes,
    ).save(folder)
    scores = store.published_scores("n")
    assert scores is not None
    assert scores.boxes is not None
    assert scores.boxes.dtype == np.float32
    np.testing.assert_allclose(scores.boxes, boxes, rtol=1e-6)


def test_a_hint_that_came_later_is_not_taken(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path)
    assert store.hint_mark("changed") is None
    store.hint("changed")
    first = store.hint_mark("changed")
    assert first is not None
    store.hint("changed")
    store.take_hint("changed", first)
    second = store.hint_mark("changed")
    assert second is not None, "a hint that came meanwhile stays"
    store.take_hint("changed", second)
    assert store.hint_mark("changed") is None
    assert list(store.path("hints").iterdir()) == []


def test_a_person_is_told_that_a_round_holds_the_project(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path / "1-a")
    with store.held(wait_s=0):
        with store.lock() as again:
            assert not again
        with pytest.raises(Busy, match=r"running for 0 s; .*try again"), store.held(wait_s=0.0):
            pass
    with store.held(wait_s=0):
        pass


def test_the_lock_keeps_rounds_apart_and_dies_with_its_process(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path)
    with store.lock() as held:
        assert held
        with store.lock() as again:
            assert not again
    pid = os.fork()
    if pid == 0:
        with store.lock():
            time.sleep(60)
        os._exit(0)
    deadline = time.monotonic() + 10
    taken = False
    while not taken and time.monotonic() < deadline:
        with store.lock() as held:
            taken = not held
        time.sleep(0.01)
    assert taken
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    with store.lock() as held:
        assert held


def test_history_survives_a_torn_line(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path)
    entry = RoundEntry(
        at=datetime.now(UTC), reason="hint", labels_by_class={"a": 1}, labels_by_origin={}
    )
    store.append_history(entry)
    with store.path("history.jsonl").open("ab") as file:
        file.write(b'{"at": "20')
    store.append_history(entry)
    assert store.history(RoundEntry) == [entry, entry]


def test_card(tmp_path: Path) -> None:
    store = ProjectStores(tmp_path, "u").create(4, 44, "t")
    assert store.card == ProjectCard(label_studio_url="u", project_id=4, created_s=44, title="t")


def test_a_long_history_becomes_sparse_where_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    monkeypatch.setattr("backend.projects._HISTORY_BYTES", 20_000)
    store = ProjectStores(tmp_path, "u").create(1, 1, "t")
    path, largest = store.path("history.jsonl"), 0
    for number in range(600):
        store.append_history(
            RoundEntry(
                at=datetime.now(UTC),
                reason="hint",
                labels_by_class={},
                labels_by_origin={"queue": number},
            )
        )
        largest = max(largest, path.stat().st_size)
    assert largest < 20_500
    kept = [entry.labels_by_origin["queue"] for entry in store.history(RoundEntry)]
    assert kept == sorted(kept)
    # The first round, from which everything is counted, and every one of the last thirty.
    assert kept[0] == 0
    assert kept[-30:] == list(range(570, 600))
    assert all(later - round_ > 1 for round_, later in itertools.pairwise(kept[:10]))


def test_half_a_line_does_not_stop_the_thinning(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"first\n" + b"\xff\xfe torn\n" * 50 + b"last\n")
    thin_lines(path, most_bytes=100)
    lines = path.read_text().splitlines()
    assert lines[0] == "first"
    assert lines[-1] == "last"
    assert len(lines) == 39
    thin_lines(tmp_path / "none", most_bytes=1)
    assert not (tmp_path / "none").exists()
