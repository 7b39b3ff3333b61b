from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from backend.labelstudio.image_cache import ImageCache

ROOT = Path(__file__).resolve().parents[4]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


def size(folder: Path) -> int:
    """Of the images themselves, without the 40 bytes in front of each."""
    return sum(path.stat().st_size - 40 for path in files(folder))


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
    assert cache.get("2") is not None
    assert cache.get("0") is not None
    assert cache.get("new") is not None
    assert size(tmp_path) == 100


def test_size_is_bounded_however_much_is_stored(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=1000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: cache.put(str(n), bytes(90)), range(200)))
    assert 500 <= size(tmp_path) <= 1000


def test_a_file_put_again_counts_once(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=100)
    cache.put("kept", bytes(40))
    for _ in range(10):
        cache.put("again", bytes(50))
    assert cache.get("kept") is not None
    assert size(tmp_path) == 90


def test_what_is_empty_or_too_large_is_not_stored(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=10)
    cache.put("empty", b"")
    cache.put("large", bytes(11))
    off = ImageCache(tmp_path, max_bytes=0)
    off.put("a", b"x")
    assert off.get("a") is None
    assert files(tmp_path) == []
    cache.put("all of it", bytes(10))
    assert cache.get("all of it") == bytes(10)


@pytest.mark.parametrize("damage", ["empty", "cut", "head only", "bit", "older", "other"])
def test_a_damaged_entry_is_no_image_and_makes_way(tmp_path: Path, damage: str) -> None:
    cache = ImageCache(tmp_path, max_bytes=100)
    cache.put("a", b"twelve bytes")
    path = files(tmp_path)[0]
    stored = path.read_bytes()
    flipped = bytearray(stored)
    flipped[45] ^= 1
    path.write_bytes(
        {
            "empty": b"",  # what a power cut can leave of a rename
            "cut": stored[:-3],
            "head only": stored[:40],
            "bit": bytes(flipped),
            "older": b"\x89PNG\r\n\x1a\n" + bytes(60),
            "other": b"x",
        }[damage]
    )
    assert cache.get("a") is None
    assert files(tmp_path) == []
    cache.put("a", b"twelve bytes")
    assert cache.get("a") == b"twelve bytes"


def test_what_is_forgotten_is_fetched_again(tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, max_bytes=100)
    cache.put("a", b"one")
    cache.forget("a")
    cache.forget("never stored")
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


def test_images_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = tmp_path / "images"
        ImageCache(folder, max_bytes=100).put("a", b"one")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in files(folder)} == {0o600}
    assert {p.stat().st_mode & 0o777 for p in (folder, files(folder)[0].parent)} == {0o700}
    assert (folder / "size").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_costs_only_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    now = 0.0
    cache = ImageCache(tmp_path / "file" / "images", max_bytes=100, clock=lambda: now)
    for _ in range(1000):
        cache.put("a", b"one")
    assert cache.get("a") is None
    assert caplog.text.count("cannot store") == 1
    now = 61.0
    cache.put("a", b"one")
    assert caplog.text.count("cannot store") == 2


_FULL = """
import resource, sys
from pathlib import Path
from backend.labelstudio.image_cache import ImageCache
cache = ImageCache(Path(sys.argv[1]), max_bytes=1 << 20)
cache.put("small", bytes(100))
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # no file may grow larger: as on a full disk
cache.put("large", bytes(5000))
assert cache.get("large") is None
assert cache.get("small") == bytes(100)
"""


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    assert resource.RLIMIT_FSIZE
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cannot store" in done.stderr
    assert len(files(tmp_path)) == 1


_WRITES = """
import itertools, os, sys
from pathlib import Path
from backend.labelstudio.image_cache import ImageCache
cache = ImageCache(Path(sys.argv[1]), max_bytes=2_000_000)
print("ready", flush=True)
for n in itertools.count():
    name = f"{os.getpid()}-{n}" if n % 2 else str(n % 50)
    cache.put(name, (name * 60_000)[:60_000].encode())
"""


def test_several_processes_killed_in_the_middle(tmp_path: Path) -> None:
    for _ in range(3):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITES, str(tmp_path)],
                cwd=ROOT, stdout=subprocess.PIPE, text=True,
            )
            for _ in range(3)
        ]  # fmt: skip
        try:
            for writer in writers:
                assert writer.stdout is not None
                assert writer.stdout.readline() == "ready\n"
            until = time.monotonic() + 0.4
            while time.monotonic() < until:
                whole = [path for path in files(tmp_path) if path.suffix != ".part"]
                # Each of the others may be between its eviction and its rename.
                assert sum(map(_size, whole)) <= 2_000_000
        finally:
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                assert writer.stdout is not None
                writer.stdout.close()
    cache = ImageCache(tmp_path, max_bytes=2_000_000)
    there = [name for name in map(str, range(0, 50, 2)) if cache.get(name) is not None]
    assert there
    for name in there:
        assert cache.get(name) == (name * 60_000)[:60_000].encode()
    cache.put("one more", bytes(60_000))
    whole = [path for path in files(tmp_path) if path.suffix != ".part"]
    assert sum(map(_size, whole)) <= 2_000_000


def _size(path: Path) -> int:
    try:
        return path.stat().st_size - 40
    except FileNotFoundError:  # evicted while we look
        return 0


def test_a_folder_that_only_may_be_read_still_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ImageCache(tmp_path, max_bytes=100).put("a", b"one")

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    # Root, who runs the tests in a container, is not stopped by permissions.
    monkeypatch.setattr(os, "utime", refuse)
    monkeypatch.setattr(os, "open", refuse)
    cache = ImageCache(tmp_path, max_bytes=100)
    assert cache.get("a") == b"one"
    cache.put("b", b"two")
    assert cache.get("b") is None
    assert "Read-only file system" in caplog.text
