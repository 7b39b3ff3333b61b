"""A folder of image files with a bounded size; the least recently used go first.

Several processes may share it: a file appears whole by a rename, and one that another process
evicted is simply fetched again.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
import time
from pathlib import Path

logger = logging.getLogger(__name__)

_RESCAN_AFTER = 256  # files written here before the folder is measured again: others write too
_KEEP_SHARE = 0.9
_ABANDONED_S = 3600.0  # a temporary file older than this belongs to a process that was killed


class ImageCache:
    """Bytes by key, on disk; safe to share between threads and processes.

    Args:
        folder: where the files lie; made when the first is stored.
        max_bytes: total size that starts an eviction; 0 stores nothing.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._serial = itertools.count()
        self._size: int | None = None
        self._written = 0

    def get(self, key: str) -> bytes | None:
        """The bytes stored under a key, None where there are none."""
        if self._max_bytes == 0:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None  # never stored, evicted just now, or not readable: fetch it
        return data or None  # an empty file is what a power cut can leave of a rename

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key; a full disk is reported, not raised."""
        if not 0 < len(data) <= self._max_bytes:
            return
        path = self._path(key)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{next(self._serial)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("image cache %s: cannot store: %s", self._folder, error.strerror)
            return
        self._account(len(data))

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._folder / name[:2] / name

    def _account(self, added: int) -> None:
        with self._lock:
            self._written += 1
            if self._size is None or self._written >= _RESCAN_AFTER:
                self._evict()
                return
            self._size += added
            if self._size > self._max_bytes:
                self._evict()

    def _evict(self) -> None:
        """Measure the folder; where it is too large, remove what was used longest ago."""
        now = time.time()
        files: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            try:
                stat = path.stat()
                if path.suffix == ".part":
                    if now - stat.st_mtime > _ABANDONED_S:
                        path.unlink(missing_ok=True)
                    continue
            except OSError:
                continue  # gone meanwhile
            files.append((stat.st_mtime, stat.st_size, path))
        size = sum(length for _, length, _ in files)
        if size > self._max_bytes:
            for _, length, path in sorted(files):
                if size <= self._max_bytes * _KEEP_SHARE:
                    break
                path.unlink(missing_ok=True)
                size -= length
        self._size, self._written = size, 0
