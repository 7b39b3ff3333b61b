"""Gauges that are read at each scrape, also of files that have grown large."""

from __future__ import annotations

from pathlib import Path

from backend.metrics import LineCounter


def test_what_was_counted_is_not_read_again(tmp_path: Path) -> None:
    path, counter = tmp_path / "history.jsonl", LineCounter()
    assert counter.count(path) == 0
    path.write_bytes(b"one\ntwo\n")
    assert counter.count(path) == 2
    with path.open("r+b") as file:
        file.write(b"xxxxxxxx")  # a second reading of these bytes would find no line in them
        file.write(b"three\nhalf")
    assert counter.count(path) == 3
    assert counter.count(path) == 3
    with path.open("ab") as file:
        file.write(b" a line\n")
    assert counter.count(path) == 4


def test_a_file_that_was_replaced_or_cut_is_counted_anew(tmp_path: Path) -> None:
    path, counter = tmp_path / "history.jsonl", LineCounter()
    path.write_bytes(b"one\ntwo\nthree\n")
    assert counter.count(path) == 3
    path.write_bytes(b"one\n")
    assert counter.count(path) == 1
    other = tmp_path / "other"
    other.write_bytes(b"one\n\n\n\n")
    other.replace(path)
    assert counter.count(path) == 4
    path.unlink()
    assert counter.count(path) == 0
    path.write_bytes(b"one\n")
    assert counter.count(path) == 1
