"""When a project that is not known is looked up in Label Studio: at once, then ever less often.

Label Studio calls /setup whenever somebody asks it for a project's connections, us included: a
look-up that finds nothing asks for the next one by itself. So the pauses grow to a minute. None
of the requests is dropped: the first /setup of a new connection comes before it is saved.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_FORGOTTEN_AFTER_S = 600.0


@dataclass
class _Looked:
    """When a project was last looked up, and how long the next time must wait."""

    at: float
    pause_s: float


class Newcomers:
    """Projects that were asked after; safe to use from several threads.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wanted: set[int] = set()
        self._looked: dict[int, _Looked] = {}

    def ask(self, project_id: int) -> None:
        """Have a project looked up as soon as its pause is over."""
        with self._lock:
            self._wanted.add(project_id)

    def due(self) -> list[int]:
        """Projects to look up now; each is taken off the list and its next pause is longer."""
        with self._lock:
            now = self._clock()
            self._looked = {
                project_id: looked
                for project_id, looked in self._looked.items()
                if now - looked.at < _FORGOTTEN_AFTER_S
            }
            ready = sorted(number for number in self._wanted if self._may(number, now))
            for number in ready:
                looked = self._looked.get(number)
                pause = looked.pause_s * 4 if looked is not None else _FIRST_PAUSE_S
                self._looked[number] = _Looked(now, min(pause, _LONGEST_PAUSE_S))
            self._wanted.difference_update(ready)
            return ready

    def found(self, project_id: int) -> None:
        """The project is known now: should it ever be forgotten, it is looked up at once."""
        with self._lock:
            self._wanted.discard(project_id)
            self._looked.pop(project_id, None)

    def _may(self, project_id: int, now: float) -> bool:
        looked = self._looked.get(project_id)
        return looked is None or now - looked.at >= looked.pause_s
