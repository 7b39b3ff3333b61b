"""The ledger: how a task came to be labeled, whatever was killed meanwhile."""

from __future__ import annotations

from pathlib import Path

from backend.reconcile.ledger import UNBIASED, Ledger


def test_origins(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert ledger.origin(1) == "initial"
    ledger.append("a", kind="diversity", task_ids=[1, 2, 3], control_ids=[])
    ledger.append("b", kind="rarefirst", task_ids=[2, 3, 4], control_ids=[4])
    assert [ledger.origin(i) for i in (1, 2, 3, 4, 5)] == [
        "diversity",
        "queue",
        "queue",
        "control",
        "initial",
    ]
    assert "queue" not in UNBIASED


def test_another_reader_catches_up(tmp_path: Path) -> None:
    writer, reader = Ledger(tmp_path / "l"), Ledger(tmp_path / "l")
    writer.append("a", kind="rarefirst", task_ids=[1], control_ids=[])
    assert reader.origin(1) == "queue"
    writer.append("b", kind="rarefirst", task_ids=[2], control_ids=[])
    assert reader.origin(2) == "queue"


def test_half_a_line_of_a_killed_process_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "l"
    Ledger(path).append("a", kind="rarefirst", task_ids=[1], control_ids=[])
    with path.open("ab") as file:
        file.write(b'{"name": "b", "origin": "que')
    ledger = Ledger(path)
    assert ledger.origin(1) == "queue"
    ledger.append("c", kind="rarefirst", task_ids=[3], control_ids=[])
    assert ledger.origin(3) == "queue"
    assert Ledger(path).origin(3) == "queue"


def test_an_abandoned_publication_does_not_count(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.append("a", kind="diversity", task_ids=[1, 2], control_ids=[])
    ledger.append("b", kind="rarefirst", task_ids=[2, 3], control_ids=[])
    assert ledger.origin(2) == "queue"
    ledger.abandon("b")
    assert [ledger.origin(i) for i in (1, 2, 3)] == ["diversity", "diversity", "initial"]
    assert Ledger(tmp_path / "l").origin(2) == "diversity"
