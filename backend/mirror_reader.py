"""Read a project's mirror beside the worker that writes it: nothing is made, moved or locked.

Lance keeps the table version that a reader opened for a minute; a reader that is slower than that,
or opens a table while it is made, looks once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from backend.errors import BackendError
from backend.mirror import (
    UNREADABLE,
    FeatureTable,
    TaskTable,
    connected,
    feature_name,
    feature_table,
    panics_as_errors,
    task_table,
)

if TYPE_CHECKING:
    from lancedb.table import Table

T = TypeVar("T")

_TRIES = 3
_PAUSE_S = 0.3


class MirrorReader:
    """The tables of one mirror, as they are now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tasks(self) -> TaskTable | None:
        """Every mirrored task, ordered by id; None where nothing was mirrored yet.

        Raises:
            BackendError: where the mirror cannot be read.
        """
        return self._read("tasks", task_table)

    def some(self, ids: Collection[int]) -> TaskTable | None:
        """The mirrored ones of a few tasks, ordered by id; None where nothing was mirrored yet.

        Raises:
            BackendError: where the mirror cannot be read.
        """
        wanted = ", ".join(str(int(i)) for i in ids) or "-1"
        return self._read("tasks", lambda table: task_table(table, only=f"id IN ({wanted})"))

    def features(self, fingerprint: str) -> FeatureTable | None:
        """The features of one frozen model; None where nothing was embedded with it.

        Raises:
            BackendError: where the mirror cannot be read.
        """
        return self._read(feature_name(fingerprint), feature_table)

    def _read(self, name: str, take: Callable[[Table], T]) -> T | None:
        error: Exception | None = None
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_S)
            if not (self._path / f"{name}.lance").is_dir():
                return None
            try:
                with panics_as_errors():
                    return take(connected(self._path).open_table(name))
            except UNREADABLE as found:
                error = found
        raise BackendError(
            f"the mirror in {self._path} cannot be read ({error}); the worker makes a damaged one "
            "anew with its next round"
        )
