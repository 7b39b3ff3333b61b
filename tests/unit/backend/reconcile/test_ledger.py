"""The ledger: how a task came to be labeled, whatever was killed meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend.reconcile.ledger import UNBIASED, DrawNote, Ledger


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


def told(ledger: Ledger) -> dict[str, object]:
    """Everything that is asked of a ledger."""
    return {
        "origins": {i: ledger.origin(i) for i in range(45)},
        "last_held": ledger.last_held(),
        "draws": ledger.draws(),
        "newest": ledger.newest_drawn(),
        "sizes": ledger.sizes(),
        "names": [ledger.knows(name) for name in (*"abcdefghijkl", "extra")],
    }


TASKS = st.frozensets(st.integers(0, 40), max_size=12)
PUBLICATIONS = st.lists(
    st.tuples(TASKS, TASKS, st.sampled_from(["k1", "k2", "old"]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=12,
)


def publish(
    ledgers: tuple[Ledger, ...], name: str, some: tuple[frozenset[int], frozenset[int], str, bool]
) -> None:
    ids, control, key, diversity = some
    draws = [DrawNote(key=key, newest=50, control=tuple(control), earlier=tuple(ids - control))]
    for ledger in ledgers:
        ledger.append(
            name,
            kind="diversity" if diversity else "rarefirst",
            task_ids=ids | control,
            control_ids=control,
            draws=() if key == "old" else draws,
        )


@given(publications=PUBLICATIONS, often=st.integers(1, 5))
@settings(max_examples=60)
def test_condensing_changes_no_answer(
    publications: list[tuple[frozenset[int], frozenset[int], str, bool, bool]], often: int
) -> None:
    # A thousand flushes to a disk would test the disk.
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):
        whole, short = Ledger(Path(folder) / "whole"), Ledger(Path(folder) / "short")
        reader = Ledger(short.path)
        names = iter("abcdefghijkl")
        for number, (*some, abandoned) in enumerate(publications):
            if number % often == 0:
                short._condensed_bytes = 0
                short.condense(most_bytes=0)
            name = next(names)
            publish((whole, short), name, tuple(some))
            if abandoned:
                whole.abandon(name)
                short.abandon(name)
            reader.origin(0)  # it reads on, or anew
        assert told(reader) == told(short) == told(whole)
        short._condensed_bytes = 0
        short.condense(most_bytes=0)
        assert told(reader) == told(Ledger(short.path)) == told(whole)


def test_a_ledger_grows_by_tasks_and_hardly_by_publications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda handle: None)
    whole, short = Ledger(tmp_path / "whole"), Ledger(tmp_path / "short")
    for number in range(200):
        first = 10 * number  # ten of a queue are labeled, then it moves on
        window, drawn = frozenset(range(first, first + 270)), frozenset(range(first, first + 30))
        if number % 50 == 0:
            short.condense(most_bytes=20_000)
        publish(
            (whole, short), f"rarefirst-3fa9c1-v{number:04d}-abcdef", (window, drawn, "", False)
        )
    short.condense(most_bytes=20_000)
    assert short.last_held() == whole.last_held()
    assert len(short.path.read_bytes()) < len(whole.path.read_bytes()) / 4
    held = [sum(map(len, ledger.served().values())) for ledger in (short, whole)]
    assert held[0] < held[1] / 10


def test_a_short_ledger_is_left_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    ledger.condense()
    assert not ledger.path.exists()
    ledger.append("a", kind="rarefirst", task_ids=[1], control_ids=[])
    before = ledger.path.stat().st_mtime_ns
    ledger.condense()
    assert ledger.path.stat().st_mtime_ns == before
