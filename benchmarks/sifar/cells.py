"""The cells of the benchmark: each is computed once, and kept as a JSON file of its own.

A killed run goes on where it stopped: what a cell depends on is in the name of its file.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.sifar.entries import ENTRIES

Task = Literal["rank", "rounds", "likelihood"]
FrozenName = Literal["cnn", "eff"]

#: Raised when a change of the benchmark itself makes earlier cells worthless.
VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One scorer in one situation.

    Attributes:
        task: what is done with it.
        frozen: the frozen model.
        tail: names of the tail classes, the rarer first, such as ``"cat,truck"``.
        draw: seed of the labels drawn and of the natural pool.
        labels: labels of each tail class; None: 4 and 58.
        entry: a name of ``ENTRIES``.
        ranker: seed of the scorer.
    """

    task: Task
    frozen: FrozenName
    tail: str
    draw: int
    labels: int | None
    entry: str
    ranker: int

    @property
    def name(self) -> str:
        """For people, and for ``--cells``."""
        labels = "default" if self.labels is None else str(self.labels)
        tail = self.tail.replace(",", "-")
        where = f"{self.task}/{self.frozen}/{tail}/labels-{labels}/draw-{self.draw}"
        return f"{where}/{self.entry}/ranker-{self.ranker}"

    @property
    def digest(self) -> str:
        """Of all that the result depends on, but defaults of settings and the scorer's code."""
        entry = ENTRIES[self.entry]
        told = {
            **asdict(self),
            "config": entry.config.model_dump(mode="json", exclude_defaults=True),
            "version": [VERSION, entry.version, entry.head],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Result:
    """What a cell came to.

    Attributes:
        figures: by name, such as ``uniform.ap``.
        curves: by name, such as ``uniform.found``: numbers that belong together.
        refused: the scorer's own words, where it refused; there are no figures then.
        cpu_s: seconds of processor time that the cell took.
        commit: of the code that computed it.
    """

    figures: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    refused: str = ""
    cpu_s: float = 0.0
    commit: str = ""


class CellStore:
    """Results in a folder.

    Args:
        folder: made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, cell: Cell) -> Path:
        """Where the result of a cell is."""
        return self._folder / f"{cell.task}-{cell.entry}-{cell.digest}.json"

    def get(self, cell: Cell) -> Result | None:
        """What was written; None where nothing was, or where a setting has another default now.

        A setting that is new does not make older results worthless.
        """
        try:
            told = json.loads(self.path(cell).read_text())
        except FileNotFoundError:
            return None
        now, then = _settings(cell), told["config"]
        if any(now[name] != then[name] for name in now.keys() & then.keys()):
            return None
        return Result(**told["result"])

    def put(self, cell: Cell, result: Result) -> None:
        """Write a result so that a kill leaves either nothing or all of it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self.path(cell)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        told = {"cell": asdict(cell), "config": _settings(cell), "result": asdict(result)}
        temporary.write_text(json.dumps(told) + "\n")
        temporary.replace(path)

    def forget(self, cell: Cell) -> None:
        """Compute it anew next time."""
        self.path(cell).unlink(missing_ok=True)


def _settings(cell: Cell) -> dict[str, object]:
    """All settings of a cell's scorer."""
    settings: dict[str, object] = ENTRIES[cell.entry].config.model_dump(mode="json")
    return settings
