"""The folder of one project: everything that is kept about it, and the locks and hints around it.

    DATA_DIR/projects/<id>-<digest>/
        project.json      which project of which Label Studio this is
        connection.json   what `connect` found and set, so that `disconnect` can put it back
        tail.json         the sticky tail
        pinned.json       a version that a person activated; released.json: why it was given up
        project_settings.json  what its connection's extra params came to
        sync.json         how far the mirror has read
        failures.json     images that could not be read: reason, tries, next try
        publication.json  the queue that Label Studio serves, and one that is being imported
        publications/     what each publication said of every task
        progress.json     what the loop does now
        report.json       what the last look at Label Studio found
        history.jsonl     one line a round, thinned where it grows long
        mirror/ versions/ backbones/ runs/
        finetunes/        fine-tunes of the frozen model, see backend/finetunes.py
        hints/            touched when something happened
        lock              held by the round that runs

Label Studio reuses ids in a rebuilt database, so a project is its address, id and creation time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from backend.errors import Busy, NotConnected
from backend.files import append_line, thin_lines, write_atomically
from backend.process_ids import process_space

logger = logging.getLogger(__name__)

# Some five thousand rounds of ten classes. Pages draw 400 points of them, and the last 60 queues.
_HISTORY_BYTES = 4 * 2**20

Model = TypeVar("Model", bound=BaseModel)
Hint = Literal["changed", "deleted", "settings", "force_fit"]


class ProjectCard(BaseModel):
    """Which project a folder belongs to."""

    model_config = ConfigDict(frozen=True)

    label_studio_url: str
    project_id: int
    created_s: int
    title: str = ""


class Publication(BaseModel):
    """One set of scores in Label Studio, imported under a name of its own.

    Attributes:
        name: the ``model_version`` in Label Studio; used for one import only.
        version: the registry version that made the order.
        kind: what ordered it, ``rarefirst`` or ``diversity`` for example.
        state: ``importing`` until Label Studio holds every score, ``published`` once the
            project's model version is switched to it.
        task_ids: the published tasks in queue order.
        control_ids: those of them that were drawn at random.
        labels: labels that the order knew.
        embedded: tasks that had features when it was made.
        tail: tail classes when it was made.
        settings: those that it was made with; others lead to another one. None where that was not
            remembered yet.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    kind: str
    state: Literal["importing", "published"]
    created_at: datetime
    published_at: datetime | None = None
    task_ids: tuple[int, ...] = ()
    control_ids: tuple[int, ...] = ()
    labels: int = 0
    embedded: int = 0
    tail: tuple[str, ...] = ()
    dropped: int = 0
    settings: dict[str, JsonValue] | None = None


class Publications(BaseModel):
    """The publication that is served, the one before it, and one that is on its way.

    Attributes:
        leftovers: names whose scores are still in Label Studio and are to be deleted.
    """

    model_config = ConfigDict(frozen=True)

    published: Publication | None = None
    previous: Publication | None = None
    candidate: Publication | None = None
    leftovers: tuple[str, ...] = ()

    @property
    def versions(self) -> frozenset[str]:
        """Registry versions that a publication comes from: they must not be deleted."""
        known = (self.published, self.previous, self.candidate)
        return frozenset(publication.version for publication in known if publication is not None)


class ProgressNote(BaseModel):
    """What the loop does now, for `status`.

    Attributes:
        done, total: how far it is; 0 of 0 where that is not counted.
        since: when this was said.
        began: when the counting began, with ``began_at`` done already.
        pid, space: who said it; ``space`` is where that id counts.
    """

    model_config = ConfigDict(frozen=True)

    doing: str = "nothing"
    done: int = 0
    total: int = 0
    message: str = ""
    since: datetime | None = None
    began: datetime | None = None
    began_at: int = 0
    pid: int = 0
    space: str = ""

    @property
    def left_s(self) -> float | None:
        """Seconds that are left, at the pace so far; None where that cannot be told."""
        done = self.done - self.began_at
        if self.since is None or self.began is None or done <= 0 or self.total <= self.done:
            return None
        return (self.since - self.began).total_seconds() / done * (self.total - self.done)


class PublishedScores:
    """What a publication said of every task that had features: arrays by row, found by id.

    Attributes:
        ids: (N,) int64.
        rarity: (N,) float32 in [0, 1].
        predicted: (N,) int64 index into ``classes``; confidence: (N,) float32 in [0, 1].
        classes: the class names.
        boxes: (N, J, 6) float32 x0, y0, x1, y1 as shares of the picture, class, confidence, which
            is 0 where there is no box; None where none are shown.
        reasons: why a task of the queue stands there, by task id.
    """

    def __init__(
        self,
        *,
        ids: NDArray[np.int64],
        rarity: NDArray[np.floating],
        predicted: NDArray[np.int64],
        confidence: NDArray[np.floating],
        classes: tuple[str, ...],
        queue: NDArray[np.int64],
        reasons: tuple[str, ...],
        boxes: NDArray[np.floating] | None = None,
    ) -> None:
        self.ids = ids
        # As they are stored, so that what is told later is what was published.
        self.rarity = np.asarray(rarity, dtype=np.float32)
        self.predicted = predicted
        self.confidence = np.asarray(confidence, dtype=np.float32)
        self.classes = classes
        self.boxes = None if boxes is None else np.asarray(boxes, dtype=np.float32)
        self.queue = queue
        self.reasons = dict(zip(queue.tolist(), reasons, strict=True))
        # A dictionary of a million tasks takes twenty times the memory of this.
        self._by_id = np.argsort(ids, kind="stable")

    def row(self, task_id: int) -> int | None:
        """The row of a task, or None where the publication did not score it."""
        place = int(np.searchsorted(self.ids, task_id, sorter=self._by_id))
        if place == len(self.ids):
            return None
        row = int(self._by_id[place])
        return row if self.ids[row] == task_id else None

    def save(self, folder: Path) -> None:
        """Write ``scores.npz`` and ``scores.json`` into ``folder``."""
        arrays: dict[str, NDArray[np.generic]] = {
            "ids": self.ids.astype(np.int64),
            "rarity": self.rarity.astype(np.float32),
            "predicted": self.predicted.astype(np.int64),
            "confidence": self.confidence.astype(np.float32),
            "queue": self.queue.astype(np.int64),
        }
        if self.boxes is not None:
            arrays["boxes"] = self.boxes
        np.savez(folder / "scores.npz", **arrays)  # type: ignore[arg-type]  # none is a flag
        reasons = [self.reasons[int(i)] for i in self.queue]
        (folder / "scores.json").write_text(json.dumps({"classes": self.classes, "why": reasons}))

    @classmethod
    def load(cls, folder: Path) -> PublishedScores:
        """Read what ``save`` wrote."""
        words = json.loads((folder / "scores.json").read_text())
        with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
            return cls(
                ids=arrays["ids"],
                rarity=arrays["rarity"],
                predicted=arrays["predicted"],
                confidence=arrays["confidence"],
                queue=arrays["queue"],
                boxes=arrays.get("boxes"),
                classes=tuple(words["classes"]),
                reasons=tuple(words["why"]),
            )


class ProjectStore:
    """The folder of one project."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._noted = ProgressNote()

    @property
    def key(self) -> str:
        """The folder's name: unique over Label Studio servers and rebuilt databases."""
        return self.root.name

    def path(self, *parts: str) -> Path:
        """A path below the folder."""
        return self.root.joinpath(*parts)

    # JSON files -------------------------------------------------------------------------------

    def read(self, name: str, model: type[Model]) -> Model | None:
        """A JSON file of the folder; None where it is absent or unreadable (which is logged)."""
        path = self.path(name)
        try:
            return model.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            logger.warning("%s is unreadable and taken as absent: %s", path, error)
            return None

    def write(self, name: str, value: BaseModel) -> None:
        """Write a JSON file of the folder atomically."""
        write_atomically(self.path(name), value.model_dump_json(indent=1))

    @property
    def card(self) -> ProjectCard | None:
        """Which project this is."""
        return self.read("project.json", ProjectCard)

    def publications(self) -> Publications:
        """What is published, and what is on its way."""
        return self.read("publication.json", Publications) or Publications()

    def forget_publications(self) -> None:
        """Nothing of ours is served any more: the next publication is a first one."""
        self.path("publication.json").unlink(missing_ok=True)
        shutil.rmtree(self.path("publications"), ignore_errors=True)

    def published_scores(self, name: str) -> PublishedScores | None:
        """What a publication said of every task, or None where that is gone or unreadable."""
        try:
            return PublishedScores.load(self.path("publications", name))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            logger.warning("scores of publication %s cannot be read: %s", name, error)
            return None

    def progress(self) -> ProgressNote:
        """What the loop does now."""
        return self.read("progress.json", ProgressNote) or ProgressNote()

    def note(self, doing: str, done: int = 0, total: int = 0, message: str = "") -> None:
        """Say what the loop does now."""
        now, last = datetime.now(UTC), self._noted
        goes_on = (last.doing, last.total) == (doing, total) and last.done <= done
        self._noted = ProgressNote(
            doing=doing,
            done=done,
            total=total,
            message=message,
            since=now,
            began=last.began if goes_on else now,
            began_at=last.began_at if goes_on else done,
            pid=os.getpid(),
            space=process_space(),
        )
        try:
            self.write("progress.json", self._noted)
        except OSError as error:
            # It is for people only: no work ends for it.
            logger.debug("%s cannot be written: %s", self.path("progress.json"), error)

    # History ----------------------------------------------------------------------------------

    def append_history(self, entry: BaseModel) -> None:
        """Add one line to ``history.jsonl``; where that is too long, old rounds become sparse."""
        append_line(self.path("history.jsonl"), entry.model_dump_json())
        thin_lines(self.path("history.jsonl"), most_bytes=_HISTORY_BYTES)

    def history(self, model: type[Model]) -> list[Model]:
        """All lines that can be read, oldest first; of rounds long ago some are left out."""
        lines: list[Model] = []
        with contextlib.suppress(FileNotFoundError):
            for line in self.path("history.jsonl").read_bytes().splitlines():
                with contextlib.suppress(ValidationError):
                    lines.append(model.model_validate_json(line))
        return lines

    # Hints ------------------------------------------------------------------------------------

    def hint(self, what: Hint) -> None:
        """Say that something happened: cheap, and durable until a round has seen it."""
        path = self.path("hints", what)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        # The kernel's own stamps are milliseconds apart: two hints in one would look like one.
        now = time.time_ns()
        with contextlib.suppress(FileNotFoundError):  # a round took it in between: it is seen
            os.utime(path, ns=(now, now))

    def hint_mark(self, what: Hint) -> int | None:
        """Tells one hint from a later one; None where there is none."""
        try:
            return self.path("hints", what).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def hinted_at(self, what: Hint) -> float | None:
        """When the newest such hint came, in Unix seconds, or None."""
        mark = self.hint_mark(what)
        return None if mark is None else mark / 1e9

    def take_hint(self, what: Hint, mark: int) -> None:
        """Drop a hint that a round has dealt with; one that came meanwhile stays."""
        path = self.path("hints", what)
        taken = path.with_name(f".{what}.{os.getpid()}.{time.monotonic_ns()}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(taken)
            if taken.stat().st_mtime_ns != mark:
                self.hint(what)
            taken.unlink()

    @property
    def paused(self) -> bool:
        """Whether a person paused this project."""
        return self.path("paused").exists()

    # Lock -------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, *, wait_s: float = 0.0) -> Iterator[bool]:
        """Hold the project; yields False where another holds it, for ``wait_s`` seconds.

        The operating system lets go of it when the process dies, however it dies.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_s
        with self.path("lock").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        yield False
                        return
                    time.sleep(0.05)
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def held(self, *, wait_s: float) -> Iterator[None]:
        """Hold the project for what a person asked for.

        Raises:
            Busy: where another has held it for ``wait_s`` seconds.
        """
        with self.lock(wait_s=wait_s) as held:
            if not held:
                raise Busy(
                    f"a round of this project has been running for {wait_s:.0f} s; "
                    "`rarefirst status` says what it does, try again afterwards"
                )
            yield


class ProjectStores:
    """All projects of a data directory."""

    def __init__(self, data_dir: Path, label_studio_url: str) -> None:
        self.root = data_dir / "projects"
        self.label_studio_url = label_studio_url

    def key(self, project_id: int, created_s: int) -> str:
        """The folder name of a project."""
        identity = f"{self.label_studio_url}|{project_id}|{created_s}"
        return f"{project_id}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"

    def at(self, project_id: int, created_s: int) -> ProjectStore:
        """Where the store of a project is, or would be."""
        return ProjectStore(self.root / self.key(project_id, created_s))

    def create(self, project_id: int, created_s: int, title: str) -> ProjectStore:
        """The store of a project, made if it is new."""
        store = self.at(project_id, created_s)
        card = ProjectCard(
            label_studio_url=self.label_studio_url,
            project_id=project_id,
            created_s=created_s,
            title=title,
        )
        if store.card != card:
            store.root.mkdir(parents=True, exist_ok=True)
            store.write("project.json", card)
        return store

    def find(self, project_id: int, created_s: int | None = None) -> ProjectStore | None:
        """The store of a project, by id and (where known) creation time; the newest of several."""
        found = [
            (card.created_s, store)
            for store in self.all()
            if (card := store.card) is not None
            and card.project_id == project_id
            and (created_s is None or card.created_s == created_s)
        ]
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def connected(self, project_id: int) -> ProjectStore:
        """The store of a project that a person named.

        Raises:
            NotConnected: where the project is not connected.
        """
        store = self.find(project_id)
        if store is None:
            raise NotConnected(
                f"project {project_id} is not connected; `rarefirst status` lists those that are"
            )
        return store

    def all(self) -> list[ProjectStore]:
        """Every store of this Label Studio, by name."""
        if not self.root.is_dir():
            return []
        stores = (ProjectStore(path) for path in sorted(self.root.iterdir()) if path.is_dir())
        return [
            store
            for store in stores
            if (card := store.card) is not None and card.label_studio_url == self.label_studio_url
        ]
