"""The worker's sign of life: a file whose age says how long ago the worker was well."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pydantic import BaseModel, ValidationError

from backend.files import write_atomically

HEARTBEAT_S = 2.0
STALE_S = 15.0


class Heartbeat(BaseModel):
    """Who beats, and since when it runs (``worker.heartbeat``)."""

    pid: int
    since_s: float


def _path(data_dir: Path) -> Path:
    return data_dir / "worker.heartbeat"


def begin(data_dir: Path, pid: int) -> None:
    """Say that a worker starts."""
    now = time.time()
    write_atomically(_path(data_dir), Heartbeat(pid=pid, since_s=now).model_dump_json())
    os.utime(_path(data_dir), (now, now))


def beat(data_dir: Path, pid: int) -> None:
    """Say that the worker is well, by our own clock: a network disk may have another."""
    now = time.time()
    try:
        os.utime(_path(data_dir), (now, now))
    except FileNotFoundError:
        begin(data_dir, pid)


def end(data_dir: Path) -> None:
    """Say that the worker ended by itself."""
    _path(data_dir).unlink(missing_ok=True)


def stamp(data_dir: Path) -> float | None:
    """When the last sign of life came, Unix seconds, or None where there is none."""
    try:
        return _path(data_dir).stat().st_mtime
    except FileNotFoundError:
        return None


def heartbeat_age_s(data_dir: Path) -> float | None:
    """Seconds since the last sign of life, or None where there is none."""
    at = stamp(data_dir)
    return None if at is None else max(0.0, time.time() - at)


def read(data_dir: Path) -> Heartbeat | None:
    """Who beats, or None where nobody does."""
    try:
        return Heartbeat.model_validate_json(_path(data_dir).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
