"""How often a silent host is asked: a thousand tasks on one that hangs must not stop the others.

Each silence costs a fetching thread up to the whole time limit. After a few in a row without any
answer a host is left alone for a while; then one image asks for all, and its silence counts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_IN_A_ROW = 6
_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 900.0


@dataclass
class _Record:
    silences: int = 0
    not_before: float = 0.0


class HostPatience:
    """Which hosts may be asked now; safe to share between threads.

    Args:
        clock: seconds that never run backwards.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}

    def may_ask(self, host: str) -> bool:
        """Whether to ask now; after a pause one is let through, the others wait for its answer."""
        with self._lock:
            record = self._records.get(host)
            if record is None or record.silences < _IN_A_ROW:
                return True
            if self._clock() < record.not_before:
                return False
            record.not_before = self._clock() + _FIRST_PAUSE_S
            return True

    def answered(self, host: str) -> None:
        """It said something, if only no."""
        with self._lock:
            self._records.pop(host, None)

    def was_silent(self, host: str) -> None:
        """It could not be reached, or did not finish in time."""
        with self._lock:
            record = self._records.setdefault(host, _Record())
            record.silences += 1
            over = min(record.silences - _IN_A_ROW, 30)
            if over >= 0:
                pause = min(_FIRST_PAUSE_S * 2**over, _LONGEST_PAUSE_S)
                record.not_before = self._clock() + pause
