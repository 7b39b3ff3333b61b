"""One long training at a time on a device, over all projects of a data directory.

The operating system lets go of the lock when its process dies, however it dies.
"""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path


def take_device(data_dir: Path, device: str) -> int | None:
    """Hold a device for as long as this process lives; None where another one holds it."""
    path = _path(data_dir, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        return None
    return held


def device_is_free(data_dir: Path, device: str) -> bool:
    """Whether nobody holds a device now."""
    if not _path(data_dir, device).exists():
        return True
    held = take_device(data_dir, device)
    if held is None:
        return False
    os.close(held)
    return True


def _path(data_dir: Path, device: str) -> Path:
    device = "cuda:0" if device == "cuda" else device
    return data_dir / "devices" / (re.sub(r"[^a-z0-9]+", "-", device.lower()) + ".lock")
