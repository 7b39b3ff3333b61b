"""Which tasks were ever put into a queue, and into which kind: how a task came to be labeled.

A publication holds unlabeled tasks only, so a labeled task that stands in the ledger was labeled
after our queue held it. That needs no clock, and survives the loss of the mirror.

Of a task the newest publication that held it counts, so a file that has grown long is written anew
without what later publications say again (`Ledger.condense`): then it holds every task once, and a
short line for each publication.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from backend.files import append_line, write_atomically

Origin = Literal["initial", "queue", "diversity", "control"]

#: Labels that say something of prevalence: not chosen by likelihood of being rare.
UNBIASED: frozenset[Origin] = frozenset({"initial", "diversity", "control"})

_MOST_BYTES = 2**20
_NEWEST = 3  # publications that may yet be abandoned, and then some


class DrawNote(BaseModel):
    """A random draw out of the pool, as far as a publication held it.

    Attributes:
        key: tells one draw from another; several publications may hold the same one.
        newest: the largest id that could be drawn; later tasks are not spoken of.
        control: the drawn tasks.
        earlier: published tasks that could not be drawn, since they stood in the order already.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    newest: int
    control: tuple[int, ...]
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class KnownDraw:
    """A random draw, over all publications that held it.

    Attributes:
        number: of the first publication that held it, counted from 0.
        newest: the largest id that could be drawn.
        control: drawn tasks that no later publication held otherwise.
        earlier: tasks that could not be drawn, though they were unlabeled then.
    """

    number: int
    newest: int
    control: tuple[int, ...]
    earlier: frozenset[int]


class _Line(BaseModel):
    """One publication in the file; releases before 2026-11-21 noted no draws.

    Attributes:
        size: how many tasks it held, and how many of them were drawn, where some are left out.
    """

    name: str
    origin: Origin
    ids: tuple[int, ...]
    control: tuple[int, ...]
    draws: tuple[DrawNote, ...] = ()
    size: tuple[int, int] | None = None

    def noted(self) -> tuple[DrawNote, ...]:
        """The draws; where none is noted, the control slice as one from up to its newest task."""
        if self.draws or not self.control:
            return self.draws
        newest = max((*self.ids, *self.control))
        return (DrawNote(key=self.name, newest=newest, control=self.control),)


_Entry = TypeAdapter(dict[str, object])


class Ledger:
    """Record of what was published (``ledger.jsonl``): appended to, and condensed now and then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._condensed_bytes = 0
        self._forget()

    def _forget(self) -> None:
        self._publications: dict[str, dict[int, Origin]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._origins: dict[int, Origin] = {}
        self._draws: dict[str, tuple[DrawNote, ...]] = {}
        self._names: dict[str, None] = {}
        self._read_to = 0
        self._last_line = b""

    def append(
        self,
        name: str,
        *,
        kind: str,
        task_ids: Collection[int],
        control_ids: Collection[int],
        draws: Sequence[DrawNote] = (),
    ) -> None:
        """Write down a publication before its scores are imported."""
        line = {
            "name": name,
            "origin": "diversity" if kind == "diversity" else "queue",
            "ids": sorted(set(task_ids) - set(control_ids)),
            "control": sorted(control_ids),
            "draws": [draw.model_dump() for draw in draws],
        }
        append_line(self.path, json.dumps(line))

    def abandon(self, name: str) -> None:
        """Write down that a publication was never served."""
        append_line(self.path, json.dumps({"abandoned": name}))

    def knows(self, name: str) -> bool:
        """Whether a publication ever had this name, abandoned ones included."""
        self._catch_up()
        return name in self._names

    def origin(self, task_id: int) -> Origin:
        """How a labeled task came to be labeled; the newest queue that held it counts."""
        self._catch_up()
        return self._origins.get(task_id, "initial")

    def served(self) -> dict[str, dict[int, Origin]]:
        """Every publication that was not abandoned, oldest first: how each of its tasks came in.

        Of older ones tasks may be left out that a later one held too; see ``sizes``.
        """
        self._catch_up()
        return dict(self._publications)

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Every publication that was not abandoned, oldest first: its tasks, and how many drawn."""
        self._catch_up()
        return dict(self._sizes)

    def last_held(self) -> dict[int, int]:
        """The number of the newest publication that held a task, by task.

        A task that is labeled was labeled after that publication, and not before.
        """
        self._catch_up()
        return {
            task_id: number
            for number, origins in enumerate(self._publications.values())
            for task_id in origins
        }

    def draws(self) -> list[KnownDraw]:
        """Every random draw that was published, oldest first.

        A draw that is published again after another one is a new draw, from the pool that was
        left then: what the other queues took of it in between was not taken at random.
        """
        last = self.last_held()
        found: list[KnownDraw] = []
        current: dict[str, int] = {}
        for number, name in enumerate(self._publications):
            places: dict[str, int] = {}
            for note in self._draws[name]:
                control = tuple(i for i in note.control if last[i] == number)
                place = current.get(note.key, len(found))
                places[note.key] = place
                if place < len(found):
                    known = found[place]
                    found[place] = replace(known, control=(*known.control, *control))
                else:
                    found.append(KnownDraw(number, note.newest, control, frozenset(note.earlier)))
            current = places
        return found

    def newest_drawn(self) -> int | None:
        """The largest id that the last draw could have brought; None before the first."""
        draws = self.draws()
        return draws[-1].newest if draws else None

    def condense(self, *, most_bytes: int = _MOST_BYTES) -> None:
        """Write a long file anew without what later publications say again.

        Called where the project is held, and before a publication is begun. Nothing that is asked
        of the ledger changes by it. The newest publications stay as they are, and nothing is left
        out on the word of one of them: they may yet be abandoned.
        """
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size <= max(most_bytes, 2 * self._condensed_bytes):
            return
        self._catch_up()
        names = list(self._publications)
        settled = dict.fromkeys(names[: max(0, len(names) - _NEWEST)])
        last = {i: name for name in settled for i in self._publications[name]}
        lines: list[str] = []
        before: set[str] = set()
        for name in self._names:
            if name not in self._publications:
                # Its name must never be used again.
                empty = {"name": name, "origin": "queue", "ids": [], "control": []}
                lines += [json.dumps(empty), json.dumps({"abandoned": name})]
                continue
            later = last if name in settled else {}
            lines.append(self._line(name, before, later).model_dump_json(exclude_none=True))
            before = {note.key for note in self._draws[name]}
        write_atomically(self.path, "\n".join(lines) + "\n")
        self._condensed_bytes = self.path.stat().st_size
        self._forget()

    def _line(self, name: str, before: set[str], last: dict[int, str]) -> _Line:
        """A publication without the tasks that ``last`` gives to a later one.

        Args:
            name: of the publication.
            before: keys of the draws of the one before it.
            last: the newest settled publication that held a task.
        """
        origins = {i: o for i, o in self._publications[name].items() if last.get(i, name) == name}
        draws = tuple(
            note.model_copy(
                update={
                    "control": tuple(i for i in note.control if last.get(i, name) == name),
                    # Only what is said where a draw begins is read.
                    "earlier": () if note.key in before else note.earlier,
                }
            )
            for note in self._draws[name]
        )
        plain = [origin for origin in self._publications[name].values() if origin != "control"]
        return _Line(
            name=name,
            origin=plain[0] if plain else "queue",
            ids=tuple(sorted(i for i, origin in origins.items() if origin != "control")),
            control=tuple(sorted(i for i, origin in origins.items() if origin == "control")),
            draws=draws,
            size=self._sizes[name],
        )

    def _catch_up(self) -> None:
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._read_to - len(self._last_line))
            if file.read(len(self._last_line)) != self._last_line:
                self._forget()  # it was written anew; an inode would not tell, they are used again
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                self._last_line = line
                # A torn or damaged line is passed over; the bytes may not even be text.
                with contextlib.suppress(ValueError):
                    self._take(_Entry.validate_json(line))

    def _take(self, entry: dict[str, object]) -> None:
        abandoned = entry.get("abandoned")
        if isinstance(abandoned, str):
            self._draws.pop(abandoned, None)
            self._sizes.pop(abandoned, None)
            if self._publications.pop(abandoned, None):
                self._origins = {}
                for served in self._publications.values():
                    self._origins.update(served)
            return
        line = _Line.model_validate(entry)
        origins: dict[int, Origin] = dict.fromkeys(line.ids, line.origin)
        origins.update(dict.fromkeys(line.control, "control"))
        self._names[line.name] = None
        self._publications[line.name] = origins
        self._sizes[line.name] = line.size or (
            len(origins),
            sum(origin == "control" for origin in origins.values()),
        )
        self._draws[line.name] = line.noted()
        self._origins.update(origins)
