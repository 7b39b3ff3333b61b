"""A folder of image files with a bounded size; the least recently used go first.

Several processes may share it. A file appears whole by a rename and carries a digest of its
content: half a file, or one whose bits changed, is taken for absent. The size is kept in a file of
its own under a lock, so that the bound holds however many processes write; it is measured anew
when a process begins and whenever something is evicted. Files are for their owner only: images may
be private. Nothing in an entry depends on who asked for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

logger = logging.getLogger(__name__)

_MAGIC = b"rfimage1"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_KEEP_SHARE = 0.9
_ABANDONED_S = 3600.0  # a temporary file older than this belongs to a process that was killed
_PAUSE_S = 60.0  # after a full disk: trying again with every image would only cost time
_SIZE_FILE = "size"


def image_key(uri: str, project_key: str) -> str:
    """Of a cached file: nothing in it depends on who asked, all on project and address."""
    return f"{project_key}\n{uri.strip()}"


class ImageCache:
    """Bytes by key, on disk; safe to share between threads and processes.

    Args:
        folder: where the files lie; made when the first is stored.
        max_bytes: total size of the stored images, never exceeded; 0 stores nothing.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._serial = itertools.count()
        self._measured = False
        self._not_before = 0.0

    def get(self, key: str) -> bytes | None:
        """The bytes stored under a key, None where there are none that are whole."""
        if self._max_bytes == 0:
            return None
        path = self._path(key)
        try:
            stored = path.read_bytes()
        except OSError:
            return None  # never stored, evicted just now, or not readable: fetch it
        data = stored[_HEAD:]
        if not data or stored[:_HEAD] != _MAGIC + hashlib.sha256(data).digest():
            logger.debug("image cache %s: an entry is damaged and fetched again", self._folder)
            self.forget(key)
            return None
        with suppress(OSError):  # a folder that only may be read
            os.utime(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key; a full disk is reported, not raised."""
        if not 0 < len(data) <= self._max_bytes or self._clock() < self._not_before:
            return
        path = self._path(key)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{next(self._serial)}.part")
        try:
            for folder in (self._folder, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with _private(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb") as file:
                    file.write(_MAGIC + hashlib.sha256(data).digest() + data)
                with self._account() as account:
                    account.make_room(len(data), instead_of=path)
                    temporary.replace(path)
                    account.size += len(data)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            self._not_before = self._clock() + _PAUSE_S
            logger.warning(
                "image cache %s: cannot store: %s; images are fetched each time, the next try is "
                "in %.0f s",
                self._folder, error.strerror, _PAUSE_S,
            )  # fmt: skip

    def holds(self, key: str) -> bool:
        """Whether something is stored under a key, whole or not."""
        return self._max_bytes > 0 and self._path(key).is_file()

    def forget(self, key: str) -> None:
        """Drop what is stored under a key."""
        with suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name

    @contextmanager
    def _account(self) -> Iterator[_Account]:
        """Hold the one number that all processes share; a killed one lets go of it."""
        path = self._folder / _SIZE_FILE
        with self._lock, _private(path, os.O_RDWR | os.O_CREAT, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found = file.read(32)
            known = int(found) if self._measured and found.isdigit() else None
            account = _Account(self._folder, self._max_bytes, known)
            try:
                yield account
            finally:
                self._measured = True
                file.seek(0)
                file.truncate()
                file.write(b"%d" % account.size)
                file.flush()


class _Account:
    """The size of the stored images, while the lock is held.

    Attributes:
        size: bytes.
    """

    def __init__(self, folder: Path, max_bytes: int, size: int | None) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self.size = _files(folder)[1] if size is None else size

    def make_room(self, wanted: int, *, instead_of: Path) -> None:
        """Evict what was used longest ago, so that ``wanted`` bytes fit.

        Args:
            wanted: size of what comes.
            instead_of: the file that it takes the place of.
        """
        with suppress(OSError):
            self.size -= max(0, instead_of.stat().st_size - _HEAD)
        if self.size + wanted <= self._max_bytes:
            return
        # Measured anew: a kill, or a hand in the folder, may have made the number wrong.
        files, self.size = _files(self._folder)
        aim = min(self._max_bytes * _KEEP_SHARE, self._max_bytes - wanted)
        for _, length, path in sorted(files):
            if self.size <= aim:
                break
            path.unlink(missing_ok=True)
            self.size -= length


def _files(folder: Path) -> tuple[list[tuple[float, int, Path]], int]:
    """When each was used, its size and path; and all sizes. Half files of old are cleared."""
    now = time.time()
    found: list[tuple[float, int, Path]] = []
    for path in folder.glob("??/*"):
        try:
            stat = path.stat()
            if path.suffix == ".part":
                if now - stat.st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)
                continue
        except OSError:
            continue  # gone meanwhile
        found.append((stat.st_mtime, max(0, stat.st_size - _HEAD), path))
    return found, sum(length for _, length, _ in found)


def _private(path: Path, flags: int, mode: str) -> IO[bytes]:
    """Open a file that, if it is new, only its owner may read."""
    return os.fdopen(os.open(path, flags, 0o600), mode)
