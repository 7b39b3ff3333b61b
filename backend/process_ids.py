"""Process ids that are written down: they mean something only where they were given.

Web and worker share a data folder, but as containers they do not see each other's processes: an
id of the one is nobody, or somebody else, to the other.
"""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path


@cache
def process_space() -> str:
    """A name of what our process ids count in: this machine, or this container."""
    try:
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:  # not on every system
        namespace = ""
    return f"{socket.gethostname()}/{namespace}"


def runs_here(pid: int) -> bool:
    """Whether a process of this id runs in our own space."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
