"""Which tasks' annotations are not taken as they are, and why: kept in bounds, for people.

A note stays until its task is read again. Of the first tasks the sentences are kept, of the
others only that there are some.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel, ConfigDict, Field

READING_NOTES = "reading_notes.json"
_MOST_TASKS = 200
_MOST_SENTENCES = 3


class ReadingNotes(BaseModel):
    """What was noted while tasks were read (``reading_notes.json``).

    Attributes:
        by_task: sentences by task id, of 200 tasks at most; three of each, and how many more.
        further: ids of the other tasks that something was noted of.
    """

    model_config = ConfigDict(frozen=True)

    by_task: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    further: tuple[int, ...] = ()

    @property
    def tasks(self) -> int:
        """How many tasks something was noted of."""
        return len(self.by_task) + len(self.further)

    def read(self, notes: Mapping[int, tuple[str, ...]]) -> ReadingNotes:
        """With what was noted of tasks that were read just now; nothing of those without notes."""
        kept, further = self._without(notes)
        for task, said in notes.items():
            if not said:
                continue
            if len(kept) < _MOST_TASKS:
                kept[task] = _in_bounds(said)
            else:
                further.add(task)
        return self._made(kept, further)

    def without(self, tasks: Collection[int]) -> ReadingNotes:
        """Without tasks that are gone."""
        return self._made(*self._without(tasks))

    def _without(
        self, tasks: Collection[int] | Mapping[int, object]
    ) -> tuple[dict[int, tuple[str, ...]], set[int]]:
        kept = {task: said for task, said in self.by_task.items() if task not in tasks}
        return kept, {task for task in self.further if task not in tasks}

    def _made(self, kept: dict[int, tuple[str, ...]], further: set[int]) -> ReadingNotes:
        made = ReadingNotes(by_task=kept, further=tuple(sorted(further)))
        return self if made == self else made


def _in_bounds(said: tuple[str, ...]) -> tuple[str, ...]:
    more = len(said) - _MOST_SENTENCES
    return said if more <= 0 else (*said[:_MOST_SENTENCES], f"and {more} more regions")
