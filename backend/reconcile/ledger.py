"""Which tasks were ever put into a queue, and into which kind: how a task came to be labeled.

A publication holds unlabeled tasks only, so a labeled task that stands in the ledger was labeled
after our queue held it. That needs no clock, and survives the loss of the mirror.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from backend.files import append_line

Origin = Literal["initial", "queue", "diversity", "control"]

#: Labels that say something of prevalence: not chosen by likelihood of being rare.
UNBIASED: frozenset[Origin] = frozenset({"initial", "diversity", "control"})


class _Line(BaseModel):
    """One publication in the file."""

    name: str
    origin: Origin
    ids: tuple[int, ...]
    control: tuple[int, ...]


class Ledger:
    """Append-only record of what was published (``ledger.jsonl``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._publications: dict[str, dict[int, Origin]] = {}
        self._origins: dict[int, Origin] = {}
        self._read_to = 0

    def append(
        self, name: str, *, kind: str, task_ids: Collection[int], control_ids: Collection[int]
    ) -> None:
        """Write down a publication before its scores are imported."""
        line = {
            "name": name,
            "origin": "diversity" if kind == "diversity" else "queue",
            "ids": sorted(set(task_ids) - set(control_ids)),
            "control": sorted(control_ids),
        }
        append_line(self.path, json.dumps(line))

    def abandon(self, name: str) -> None:
        """Write down that a publication was never served."""
        append_line(self.path, json.dumps({"abandoned": name}))

    def origin(self, task_id: int) -> Origin:
        """How a labeled task came to be labeled; the newest queue that held it counts."""
        self._catch_up()
        return self._origins.get(task_id, "initial")

    def served(self) -> dict[str, dict[int, Origin]]:
        """Every publication that was not abandoned, oldest first: how each of its tasks came in."""
        self._catch_up()
        return dict(self._publications)

    def _catch_up(self) -> None:
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                with contextlib.suppress(json.JSONDecodeError, ValidationError):
                    self._take(json.loads(line))

    def _take(self, entry: dict[str, object]) -> None:
        abandoned = entry.get("abandoned")
        if isinstance(abandoned, str):
            if self._publications.pop(abandoned, None):
                self._origins = {}
                for served in self._publications.values():
                    self._origins.update(served)
            return
        line = _Line.model_validate(entry)
        origins: dict[int, Origin] = dict.fromkeys(line.ids, line.origin)
        origins.update(dict.fromkeys(line.control, "control"))
        self._publications[line.name] = origins
        self._origins.update(origins)
