"""Reading a mirror beside its writer."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from backend.errors import BackendError
from backend.mirror import Mirror, MirroredTask, uri_digest
from backend.mirror_reader import MirrorReader

FINGERPRINT = "ab" * 32


def test_nothing_is_there_and_nothing_is_made(tmp_path: Path) -> None:
    reader = MirrorReader(tmp_path / "mirror")
    assert reader.tasks() is None
    assert reader.features(FINGERPRINT) is None
    assert list(tmp_path.iterdir()) == []


def test_it_reads_what_the_mirror_reads(tmp_path: Path) -> None:
    mirror, reader = Mirror(tmp_path / "mirror"), MirrorReader(tmp_path / "mirror")
    mirror.upsert([MirroredTask(id=3, uri="x", state="labeled", label="a"), MirroredTask(1, "y")])
    for value in (0.25, 0.5):  # the last row of an id counts
        mirror.add_features(
            FINGERPRINT,
            ids=np.asarray([3]),
            digests=[uri_digest("x")],
            vectors=np.full((1, 4), value, dtype=np.float32),
            logits=None,
        )
    tasks, features = reader.tasks(), reader.features(FINGERPRINT)
    assert tasks is not None
    assert tasks.ids.tolist() == [1, 3]
    assert tasks.states.tolist() == ["unlabeled", "labeled"]
    assert features is not None
    assert features.vectors.tolist() == [[0.5] * 4]


def test_a_damaged_mirror_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.mirror_reader._PAUSE_S", 0.0)
    Mirror(tmp_path / "mirror").upsert([MirroredTask(1, "y")])
    for data in (tmp_path / "mirror").rglob("data/*"):
        data.write_bytes(b"torn")
    with pytest.raises(BackendError, match="cannot be read"):
        MirrorReader(tmp_path / "mirror").tasks()
    assert [path.name for path in tmp_path.iterdir()] == ["mirror"]


def test_reading_while_the_worker_writes_and_compacts(tmp_path: Path) -> None:
    path = tmp_path / "mirror"
    # Far less kind than the minute that readers have.
    mirror = Mirror(path, keep_old=timedelta(seconds=0.5))
    mirror.upsert([MirroredTask(i, "x") for i in range(20)])
    over = threading.Event()

    def write() -> None:
        try:
            for turn in range(120):
                mirror.upsert([MirroredTask(turn % 20, "x", state="labeled", label=str(turn))])
        finally:
            over.set()

    worker = threading.Thread(target=write)
    worker.start()
    reader, reads = MirrorReader(path), 0
    while not over.is_set() or not reads:
        tasks = reader.tasks()
        assert tasks is not None
        assert tasks.ids.tolist() == list(range(20))
        reads += 1
    worker.join()
    assert set(reader.tasks().states.tolist()) == {"labeled"}  # type: ignore[union-attr]
