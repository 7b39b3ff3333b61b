"""A clock that jumps: found by every Python process that has this folder on its path.

``FAULTS_CLOCK`` names a file; the seconds in it are added to what ``time.time`` and
``datetime.now`` say in this process, whenever they are asked. The monotonic clock goes on as it
does, and so does the disk's: as on a network disk, the two differ by the jump.
"""

import ctypes
import datetime
import gc
import os
import time

_FILE = os.environ.get("FAULTS_CLOCK", "")


def _jump_s() -> float:
    try:
        with open(_FILE) as file:  # noqa: PTH123 -- pathlib is slow to import, this runs everywhere
            return float(file.read() or 0)
    except (OSError, ValueError):
        return 0.0


if _FILE:
    _time, _time_ns = time.time, time.time_ns

    def _jumped() -> float:
        return _time() + _jump_s()

    def _jumped_ns() -> int:
        return _time_ns() + int(_jump_s() * 1e9)

    def _now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return cls.fromtimestamp(_jumped(), tz)

    time.time, time.time_ns = _jumped, _jumped_ns
    # The class itself is changed: C code (pandas) does not bear a subclass in its place.
    _members = gc.get_referents(datetime.datetime.__dict__)[0]
    _members["now"] = classmethod(_now)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
