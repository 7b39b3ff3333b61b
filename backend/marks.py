"""When Label Studio last called us: marks that the web process leaves and `rarefirst doctor` reads.

A mark is an empty file whose age says when: `setup`, `predict`, `event-<action>`, and
`refused-<endpoint>` for a wrong or missing login. Nothing of a request is kept but which of these
it was. Leaving one is a single system call once the file is there, so every call may leave one.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

logger = logging.getLogger(__name__)

FOLDER = "marks"
_EVENT = "event-"


class Marks:
    """The marks in one folder: a project's, or the data directory's where no project is known.

    Args:
        home: the project's folder, or the data directory.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / FOLDER

    def leave(self, what: str) -> None:
        """Mark that ``what`` happened now; the answer matters more than the mark.

        Args:
            what: one of few names, never a text from a request.
        """
        path = self._folder / what
        now = time.time_ns()
        try:
            try:
                os.utime(path, ns=(now, now))
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
                # The kernel's own stamps are milliseconds behind: a later mark could look older.
                os.utime(path, ns=(now, now))
        except OSError as error:
            logger.debug("the mark %s cannot be left: %s", path, error)

    def leave_event(self, action: str) -> None:
        """Mark that an event came; ``action`` is one that we know."""
        self.leave(_EVENT + action)

    def stamp(self, what: str) -> int | None:
        """Tells one mark from a later one, in nanoseconds; None where there is none."""
        try:
            return (self._folder / what).stat().st_mtime_ns
        except OSError:
            return None

    def at(self, what: str) -> float | None:
        """When ``what`` happened last, in Unix seconds by our clock, or None."""
        stamp = self.stamp(what)
        return None if stamp is None else stamp / 1e9

    def last_event(self) -> tuple[str, float] | None:
        """The newest event: its action and when it came; None where none ever did."""
        try:
            names = [path.name for path in self._folder.iterdir() if path.name.startswith(_EVENT)]
        except OSError:
            return None
        found = [(at, name.removeprefix(_EVENT)) for name in names if (at := self.at(name))]
        if not found:
            return None
        at, action = max(found)
        return action, at
