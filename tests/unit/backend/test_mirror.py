"""The mirror: what is written is read back, once, by id."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pytest

from backend.mirror import FeatureTable, Mirror, MirroredTask, uri_digest


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


def test_upsert_replaces_by_id_and_reads_ordered(mirror: Mirror) -> None:
    mirror.upsert([MirroredTask(3, "c"), MirroredTask(1, "a"), MirroredTask(2, "b")])
    mirror.upsert([MirroredTask(2, "b2", "labeled", "cat", 1), MirroredTask(4, "d")])
    table = mirror.tasks()
    assert table.ids.tolist() == [1, 2, 3, 4]
    assert table.uris.tolist() == ["a", "b2", "c", "d"]
    assert table.rows(state="labeled").tolist() == [1]
    assert table.labels[1] == "cat"
    assert table.digests[1] == uri_digest("b2")


def test_the_same_id_twice_in_one_write_counts_once(mirror: Mirror) -> None:
    mirror.upsert([MirroredTask(1, "a"), MirroredTask(1, "b")])
    assert mirror.tasks().uris.tolist() == ["b"]


def test_remove_forgets_tasks(mirror: Mirror) -> None:
    mirror.upsert([MirroredTask(i, str(i)) for i in range(1, 1201)])
    mirror.remove(range(1, 1100))
    assert mirror.tasks().ids.tolist() == list(range(1100, 1201))


def test_survives_reopening(tmp_path: Path) -> None:
    Mirror(tmp_path / "m").upsert([MirroredTask(1, "a", "labeled", "x", 2)])
    table = Mirror(tmp_path / "m").tasks()
    assert (table.ids.tolist(), table.labels.tolist()) == ([1], ["x"])


@pytest.mark.parametrize("compacted", [False, True])
def test_last_features_of_an_id_count(mirror: Mirror, compacted: bool) -> None:
    first = np.zeros((3, 4), np.float32)
    mirror.add_features("f1", ids=np.array([1, 2, 3]), digests="abc", vectors=first, logits=None)
    mirror.add_features(
        "f1", ids=np.array([2, 9]), digests=["B", "z"], vectors=np.ones((2, 4)), logits=None
    )
    if compacted:  # both rows of an id in one batch
        mirror.compact()
    table = mirror.features("f1")
    assert table is not None
    assert table.ids.tolist() == [1, 2, 3, 9]
    assert table.digests.tolist() == ["a", "B", "c", "z"]
    assert table.vectors[:, 0].tolist() == [0, 1, 0, 1]
    assert table.vectors.dtype == np.float16
    assert table.logits is None


def test_logits_and_backbones_are_kept_apart(mirror: Mirror) -> None:
    logits = np.arange(6, dtype=np.float32).reshape(2, 3)
    ids = np.array([5, 6])
    mirror.add_features("aa", ids=ids, digests="xy", vectors=np.ones((2, 8)), logits=logits)
    mirror.add_features("bb", ids=ids, digests="xy", vectors=np.ones((2, 2)), logits=None)
    table = mirror.features("aa")
    assert table is not None
    assert table.logits is not None
    assert table.logits.tolist() == logits.tolist()
    mirror.drop_features_except(["bb"])
    assert mirror.features("aa") is None
    other = mirror.features("bb")
    assert other is not None
    assert other.vectors.shape == (2, 2)


def test_examples_are_a_view_with_all_that_the_frozen_model_said() -> None:
    table = FeatureTable(
        ids=np.asarray([1, 3, 5]),
        digests=np.asarray(["x", "y", "z"], dtype=object),
        vectors=np.eye(3, 4, dtype=np.float16),
        logits=np.arange(6, dtype=np.float32).reshape(3, 2),
    )
    found = table.examples(np.asarray([3, 5]))
    assert found.features is table.vectors, "a view"
    assert found.logits is table.logits, "a view"
    dense = found.dense()
    assert dense.features.tolist() == np.eye(3, 4)[1:].tolist()
    assert dense.logits is not None
    assert dense.logits.tolist() == [[2, 3], [4, 5]]


def test_compaction_keeps_everything_and_bounds_the_files(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", keep_old=timedelta(milliseconds=1))
    for i in range(1, 121):
        mirror.upsert([MirroredTask(i, str(i))])
    assert len(mirror.tasks()) == 120
    data_files = list((mirror.path / "tasks.lance" / "data").iterdir())
    assert len(data_files) <= 50


def test_files_are_bounded_however_often_the_worker_is_killed(tmp_path: Path) -> None:
    for i in range(1, 121):
        if i % 20 == 1:  # never fifty writes in one process
            mirror = Mirror(tmp_path / "mirror", keep_old=timedelta(milliseconds=1))
        mirror.upsert([MirroredTask(i, str(i))])
    assert len(mirror.tasks()) == 120
    assert len(list((mirror.path / "tasks.lance" / "data").iterdir())) <= 70


def test_an_unreadable_mirror_is_set_aside_and_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "mirror"
    Mirror(path).upsert([MirroredTask(1, "a")])
    for manifest in (path / "tasks.lance" / "_versions").iterdir():
        manifest.write_bytes(b"garbage")
    again = Mirror(path)
    assert len(again.tasks()) == 0
    assert [p.name for p in tmp_path.iterdir() if "unreadable" in p.name]
    again.upsert([MirroredTask(2, "b")])
    assert again.tasks().ids.tolist() == [2]


def test_what_lancedb_remembers_of_old_versions_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[lancedb.Session] = []

    def session(**limits: int) -> lancedb.Session:
        made.append(lancedb_session(**limits))
        return made[-1]

    lancedb_session = lancedb.Session
    monkeypatch.setattr(lancedb, "Session", session)
    remembered = {}
    for limit in (100_000, 100_000_000):
        monkeypatch.setattr("backend.mirror._CACHED_BYTES", limit)
        written = Mirror(tmp_path / str(limit))
        for count in range(20):
            written.upsert([MirroredTask(1, f"/{count}.png")])
            written.tasks()
        remembered[limit] = made[-1].size_bytes
    assert remembered[100_000] < 150_000
    assert remembered[100_000_000] > 300_000, "nothing to bound: this test shows nothing"
