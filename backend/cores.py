"""How many cores there are for us."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may use (containers often allow fewer than there are)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
