from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.labelstudio.image_cache import ImageCache


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


def test_what_was_put_is_got_also_by_another_process(tmp_path: Path) -> None:
    ImageCache(tmp_path, max_bytes=100).put("a", b"one")
    other = ImageCache(tmp_path, max_bytes=100)
    assert other.get("a") == b"one"
    assert other.get("b") is None
    other.put("a", b"two")
    assert other.get("a") == b"two"
    assert len(files(tmp_path)) == 1


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=100)
    for n in range(10):
        cache.put(str(n), bytes(10))
        path = max(files(tmp_path), key=lambda p: p.stat().st_mtime_ns)
        os.utime(path, (1000 + n, 1000 + n))
    assert cache.get("0") is not None  # used again: now the youngest
    cache.put("new", bytes(10))
    assert cache.get("1") is None
    assert cache.get("2") is None
    assert cache.get("0") is not None
    assert cache.get("new") is not None
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 100


def test_size_is_bounded_however_much_is_stored(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=1000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cache.put(str(n), bytes(90)), range(200)))
    assert 500 <= sum(path.stat().st_size for path in files(tmp_path)) <= 1000


def test_what_is_empty_or_too_large_is_not_stored(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=10)
    cache.put("empty", b"")
    cache.put("large", bytes(11))
    off = ImageCache(tmp_path, max_bytes=0)
    off.put("a", b"x")
    assert off.get("a") is None
    assert files(tmp_path) == []


def test_an_empty_file_left_by_a_power_cut_is_no_image(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=100)
    cache.put("a", b"one")
    files(tmp_path)[0].write_bytes(b"")
    assert cache.get("a") is None


def test_parts_of_killed_processes_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    old, fresh = tmp_path / "ab" / "x.1.0.part", tmp_path / "ab" / "y.1.0.part"
    old.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    ImageCache(tmp_path, max_bytes=100).put("a", b"one")
    assert not old.exists()
    assert fresh.exists()


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ImageCache(tmp_path / "file" / "images", max_bytes=100)
    cache.put("a", b"one")
    assert cache.get("a") is None
    assert "cannot store" in caplog.text
