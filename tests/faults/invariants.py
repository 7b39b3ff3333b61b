"""What must hold whenever the loop is at rest, and what must hold at every moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from backend.leftovers import ABANDONED_S
from backend.mirror_reader import MirrorReader
from demo.label_studio_api import LabelStudioApi, LabelStudioError
from demo.queue_watch import served_queue
from models.registry import VersionRegistry
from tests.faults.yard import Yard

_TEMPORARY = (".part", ".partial", ".new")
_CHANCE = 0.5
# What a killed process left is swept once it is certainly nobody's any more (backend/leftovers.py).
_SWEPT_S = ABANDONED_S + 30.0


def no_label_lost(yard: Yard) -> list[str]:
    """Every label that was given and not taken back is in Label Studio, and no other."""
    there = {task.id: task.labels for task in yard.annotations()}
    wanted = {i: {g.annotation: g.digit} for i, g in yard.given.items()}
    return [
        f"task {i}: Label Studio holds {there.get(i)}, given was {wanted.get(i)}"
        for i in sorted(there.keys() | wanted.keys())
        if there.get(i, {}) != wanted.get(i, {})
    ]


def none_served_twice(yard: Yard) -> list[str]:
    """The label stream never gave a task that had a label."""
    return [f"task {task} was served though it had a label" for task in yard.served_twice]


def mirror_equals_label_studio(yard: Yard) -> list[str]:
    """The mirror holds the same tasks with the same labels."""
    tasks = MirrorReader(yard.the_store.path("mirror")).tasks()
    if tasks is None:
        return ["there is no mirror"]
    here = {
        int(i): str(label) if state == "labeled" else str(state)
        for i, state, label in zip(tasks.ids, tasks.states, tasks.labels, strict=True)
    }
    there = {i: yard.given[i].digit if i in yard.given else "unlabeled" for i in yard.digits}
    return [
        f"task {i}: the mirror holds {here.get(i)}, Label Studio {there.get(i)}"
        for i in sorted(here.keys() | there.keys())
        if here.get(i) != there.get(i)
    ]


def published_scores_are_there(yard: Yard) -> list[str]:
    """Label Studio serves the published queue, task for task in its order."""
    published = yard.the_store.publications().published
    queue = served_queue(yard.api, yard.project.id)
    if published is None or queue is None:
        return [f"published is {published}, Label Studio serves {queue}"]
    if (queue.version, queue.tasks) != (published.name, published.task_ids):
        return [f"published is {published.name} {published.task_ids}, Label Studio serves {queue}"]
    return []


def rare_first(yard: Yard) -> list[str]:
    """The published order puts rare digits before common ones far better than chance."""
    published = yard.the_store.publications().published
    scores = yard.the_store.published_scores(published.name) if published else None
    if published is None or scores is None:
        return ["nothing is published"]
    if published.kind == "diversity":
        return ["the order is by diversity"]
    rare, common = [], []
    for task, digit in yard.digits.items():
        row = scores.row(task)
        if task not in yard.given and row is not None:
            (rare if digit in yard.project.digits.rare else common).append(scores.rarity[row])
    if len(rare) < 3 or len(common) < 10:
        return []
    before = np.greater.outer(np.asarray(rare), np.asarray(common)).mean()
    return [] if before > _CHANCE else [f"a rare one is before a common one with {before:.2f} only"]


def no_half_written_version(yard: Yard) -> list[str]:
    """Every version but those damaged on purpose is whole; the pointer names the active one."""
    registry = VersionRegistry(yard.the_store.path("versions"))
    whole = [version.name for version in registry.list()]
    untold = [name for name in registry.names if name not in whole and name not in yard.damaged]
    wrong = [f"version {name} is damaged: {registry.problems}" for name in untold]
    active = registry.active()
    pointer = (registry.root / "active").read_text().strip()
    if active is None or active.name != pointer:
        wrong.append(f"the pointer names {pointer}, active is {active and active.name}")
    return wrong


def nothing_left_behind(yard: Yard) -> list[str]:
    """No temporary file or folder of a killed process."""
    long_ago = time.time() - _SWEPT_S
    return [
        f"{path.relative_to(yard.disk.folder)} was left behind"
        for path in yard.disk.folder.rglob("*")
        if (path.name.startswith(".") or path.name.endswith(_TEMPORARY))
        and path.lstat().st_mtime < long_ago
    ]


def no_orphan(yard: Yard) -> list[str]:
    """No process of ours lives without a worker or a web process above it."""
    return [f"orphan process {found}" for found in yard.parts.orphans()]


INVARIANTS: dict[str, Callable[[Yard], list[str]]] = {
    "no label lost": no_label_lost,
    "none served twice": none_served_twice,
    "mirror equals Label Studio": mirror_equals_label_studio,
    "published scores are there": published_scores_are_there,
    "rare first": rare_first,
    "no half-written version": no_half_written_version,
    "nothing left behind": nothing_left_behind,
    "no orphan process": no_orphan,
}


def broken(yard: Yard) -> list[str]:
    """Everything that does not hold."""
    return [f"{name}: {what}" for name, check in INVARIANTS.items() for what in check(yard)[:5]]


class Watcher:
    """Looks all the time whether the version that the project names has scores.

    Attributes:
        looks: how often it looked.
        violations: versions that were named and had none.
    """

    def __init__(self, yard: Yard) -> None:
        self._api = LabelStudioApi(yard.studio.url, yard.studio.login.token)
        self._project = yard.project.id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self.looks = 0
        self.violations: list[str] = []
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join(30)
        self._api.close()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            try:
                named = self._api.model_version(self._project)
                scores = self._api.model_versions(self._project)
                still = self._api.model_version(self._project)
            except LabelStudioError:
                continue  # its own database is busy
            self.looks += 1
            if named == still and not scores.get(named):
                self.violations.append(f"{named!r} is served and has no scores")


def size_of(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files below a folder."""
    count = size = 0
    for path in folder.rglob("*"):
        try:
            stat = path.lstat()
        except OSError:
            continue  # deleted meanwhile
        if path.is_file():
            count, size = count + 1, size + stat.st_size
    return size, count
