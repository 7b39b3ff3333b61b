"""How many cores there are for us, and how to share them."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may use (containers often allow fewer than there are)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def wait_without_spinning() -> None:
    """Let torch's threads sleep while they wait for each other; before torch is imported.

    They spin otherwise. Where something else runs on the same cores the one that is waited for
    then gets no turn: a fit took 10 s and more on two busy cores, 4 s with this, and no longer
    than before on idle ones. A value that is set in the environment stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
