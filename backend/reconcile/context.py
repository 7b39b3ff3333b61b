"""What one round works with: the project's stores, opened once and kept between rounds."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from backend.errors import BackendError, ProjectReplaced
from backend.labelstudio.client import LabelStudioClient, ProjectInfo
from backend.labelstudio.connection import ConnectionRecord
from backend.labelstudio.interface import Interface
from backend.labelstudio.media import MediaFetcher
from backend.mirror import UNREADABLE, FeatureTable, Mirror, TaskTable
from backend.project_settings import effective
from backend.projects import Hint, ProjectStore
from backend.reconcile.ledger import UNBIASED, Ledger
from backend.reconcile.state import BackboneState, Failures, SyncState
from backend.settings import Settings
from models.registry import VersionRegistry
from models.tasks import class_counts, classes_in
from models.tasks.base import FrozenModel, Task, task_of
from models.types import Examples

logger = logging.getLogger(__name__)

#: Hints that a look at Label Studio settles.
LOOK: tuple[Hint, ...] = ("changed", "deleted", "settings")
_FAILURES = "failures.json"


class Tail(BaseModel):
    """The sticky tail (``tail.json``).

    Attributes:
        names: tail classes, in the config's order.
        away: classes that left because the config does not hold them; they come back with it.
    """

    model_config = ConfigDict(frozen=True)

    names: tuple[str, ...] = ()
    away: tuple[str, ...] = ()
    unlearnable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Stopped(Exception):  # noqa: N818  (says what happened)
    """The worker ends: an action that can be left and taken up again was left."""


class ProjectContext:
    """One project in the hands of the loop.

    Attributes:
        service: the settings of the whole service.
        settings: those that count for this project.
        settings_looked_at: when its own were read from Label Studio, by this process's clock.
        settings_missed_at: when they could not be read, None once they were.
        stopping: whether the worker ends: the action at hand is finished, or left where it can be
            taken up again, and no other one begun.
    """

    def __init__(
        self,
        settings: Settings,
        client: LabelStudioClient,
        media: MediaFetcher,
        store: ProjectStore,
        project_id: int,
    ) -> None:
        self.service = settings
        self.settings = effective(settings, store)
        self.settings_looked_at: float | None = None
        self.settings_missed_at: float | None = None
        self.client = client
        self.media = media
        self.store = store
        self.project_id = project_id
        self.mirror = Mirror(store.path("mirror"))
        self.ledger = Ledger(store.path("ledger.jsonl"))
        self.registry = VersionRegistry(store.path("versions"), keep=self.settings.keep_versions)
        self.project: ProjectInfo | None = None
        self.interface: Interface | None = None
        self._connected_with: tuple[datetime, tuple[str, ...]] | None = None
        self.drift: list[str] = []
        self.scores_gone = ""  # the publication whose scores were found missing in Label Studio
        self.not_ours = ""  # a model version that was found to be somebody else's in this look
        self.to_delete: tuple[str, list[int]] = ("", [])  # an old publication and its predictions
        self._tasks: TaskTable | None = None
        self._features: tuple[str, FeatureTable | None] | None = None
        self._embedded: tuple[TaskTable, FeatureTable, NDArray[np.int64]] | None = None
        self._backbone: FrozenModel | None = None
        self._scored: tuple[str, NDArray[np.int64]] | None = None
        self._failures: tuple[tuple[int, int, int], Failures] | None = None
        self._marks: dict[Hint, int | None] = {}
        self._looked_at = 0.0
        self.stopping: Callable[[], bool] = lambda: False

    def leave_if_stopping(self) -> None:
        """For actions that take long and are taken up again where they were left.

        Raises:
            Stopped: the worker ends.
        """
        if self.stopping():
            raise Stopped

    def take_settings(self) -> None:
        """Go by the settings that are kept for the project now."""
        self.settings = effective(self.service, self.store)
        self.registry.keep = self.settings.keep_versions

    # What is kept in the store ----------------------------------------------------------------

    @property
    def sync(self) -> SyncState:
        """How far the mirror has read."""
        return self.store.read("sync.json", SyncState) or SyncState()

    @property
    def failures(self) -> Failures:
        """Images that could not be read: parsed once for each time the file was written."""
        mark = self._failures_mark()
        if mark is None:
            return Failures()
        if self._failures is None or self._failures[0] != mark:
            self._failures = (mark, self.store.read(_FAILURES, Failures) or Failures())
        return self._failures[1]

    def keep_failures(self, found: Failures) -> None:
        """Write which images could not be read."""
        self.store.write(_FAILURES, found)
        mark = self._failures_mark()
        self._failures = None if mark is None else (mark, found)

    def _failures_mark(self) -> tuple[int, int, int] | None:
        """Tells one writing of the file from another (it is replaced, never changed)."""
        try:
            stat = self.store.path(_FAILURES).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_ino, stat.st_size

    @property
    def task(self) -> Task:
        """The kind of labels that the config asks for."""
        return task_of(self.sync.task)

    @property
    def tail(self) -> Tail:
        """The sticky tail."""
        return self.store.read("tail.json", Tail) or Tail()

    @property
    def connection(self) -> ConnectionRecord | None:
        """What connecting found and set, None before the connection was completed."""
        return self.store.read("connection.json", ConnectionRecord)

    def connected_with(self, record: ConnectionRecord, problems: tuple[str, ...]) -> None:
        """Keep what was left to mend when the connection was completed."""
        self._connected_with = (record.connected_at, problems)

    def standing_problems(self) -> tuple[str, ...]:
        """What was left to mend then; nothing once the project was connected anew."""
        record = self.connection
        if self._connected_with is None or record is None:
            return ()
        connected_at, problems = self._connected_with
        return problems if record.connected_at == connected_at else ()

    @property
    def backbone_state(self) -> BackboneState | None:
        """The active frozen model."""
        return self.store.read("backbone.json", BackboneState)

    def backbone_folder(self, fingerprint: str) -> Path:
        """Where a frozen model lies."""
        return self.store.path("backbones", fingerprint[:16])

    # Hints ------------------------------------------------------------------------------------

    def begin_looking(self) -> None:
        """Remember which hints there are: others, or newer ones, make another look worth it."""
        self._marks = {what: self.store.hint_mark(what) for what in LOOK}
        self._looked_at = time.monotonic()
        self.not_ours = ""

    def end_looking(self) -> None:
        """What was hinted before the look has been seen."""
        for what, mark in self._marks.items():
            if mark is not None:
                self.store.take_hint(what, mark)
        # What is left came during the look, which may have missed it.
        self._marks = {}

    def was_hinted(self, what: Hint) -> bool:
        """Whether such a hint was there when the look began."""
        return self._marks.get(what) is not None

    def hinted(self) -> bool:
        """Whether something happened since the last look, or the worker ends."""
        if self.stopping():
            return True
        marks = {what: self.store.hint_mark(what) for what in LOOK}
        return any(
            mark is not None and mark != self._marks.get(what) for what, mark in marks.items()
        )

    def demand_look(self, what: Hint) -> None:
        """Something does not fit what was seen: look again before anything else."""
        self.store.hint(what)
        self._looked_at = -math.inf

    def must_look_again(self) -> bool:
        """Whether something happened, and the last look is not a moment ago.

        Under constant hints a round would else look for ever and never act.
        """
        if self.stopping():
            return True
        pause = self.settings.debounce_max_s
        return time.monotonic() - self._looked_at >= pause and self.hinted()

    # Tables, read once a change ---------------------------------------------------------------

    def tasks(self) -> TaskTable:
        """All mirrored tasks."""
        if self._tasks is None:
            try:
                self._tasks = self.mirror.tasks()
            except UNREADABLE as error:
                raise self.mirror_lost(error) from error
        return self._tasks

    def features(self) -> FeatureTable | None:
        """Features of the active backbone, None where it has none; see ``embedded_rows``."""
        state = self.backbone_state
        if state is None:
            return None
        if self._features is None or self._features[0] != state.fingerprint:
            try:
                self._features = (state.fingerprint, self.mirror.features(state.fingerprint))
            except UNREADABLE as error:
                raise self.mirror_lost(error) from error
        return self._features[1]

    def scored_ids(self, name: str) -> NDArray[np.int64]:
        """Tasks that a publication scored; empty where that is not known any more."""
        if self._scored is None or self._scored[0] != name:
            scores = self.store.published_scores(name)
            ids = np.empty(0, dtype=np.int64) if scores is None else scores.ids
            self._scored = (name, ids)
        return self._scored[1]

    def look_at_project(self) -> ProjectInfo:
        """Ask Label Studio for the project, and make sure that it is the one of this folder.

        Raises:
            ProjectReplaced: a rebuilt database gave its id to another project.
        """
        project, card = self.client.project(self.project_id), self.store.card
        if card is not None and card.created_s != project.created_s:
            raise ProjectReplaced(project.id, was=card.created_s, now=project.created_s)
        self.project = project
        return project

    def mirror_lost(self, error: Exception) -> BackendError:
        """Set an unreadable mirror aside; what was in it is read and embedded again."""
        self.mirror.set_aside(error)
        self.forget_tasks()
        self.forget_features()
        self.store.write("sync.json", self.sync.model_copy(update={"watermark": None}))
        return BackendError(f"the mirror could not be read and is made anew: {error}")

    def look_at_mirror(self) -> None:
        """Make sure that the mirror's files hold what was read from them.

        What is open is not read again by itself, so a disk may fail unnoticed until the next
        start, while those who only read the mirror find it damaged.

        Raises:
            BackendError: they do not; the mirror is set aside, and read again with the next round.
        """
        known = self.tasks()
        try:
            found = self.mirror.on_disk()
        except UNREADABLE as error:
            raise self.mirror_lost(error) from error
        if not found.same_as(known):
            raise self.mirror_lost(ValueError("its files hold other tasks than were written"))

    def check_mirror(self) -> None:
        """Something failed that should not: set the mirror aside if its files are damaged."""
        try:
            self.mirror.check()
        except UNREADABLE as error:
            self.mirror_lost(error)

    def forget_tasks(self) -> None:
        """The mirror's tasks changed."""
        self._tasks = None
        self._embedded = None

    def forget_features(self) -> None:
        """The mirror's features changed."""
        self._features = None
        self._embedded = None

    def backbone(self) -> FrozenModel:
        """The active frozen model, loaded once."""
        state = self.backbone_state
        if state is None:
            raise RuntimeError("the plan asked for a frozen model before Bootstrap made one")
        if self._backbone is None or self._backbone.fingerprint != state.fingerprint:
            self._backbone = task_of(state.task).load(
                self.backbone_folder(state.fingerprint), device=device(self.settings.device)
            )
        return self._backbone

    # Derived ----------------------------------------------------------------------------------

    def embedded_rows(self) -> NDArray[np.int64]:
        """Rows of ``tasks()`` that have features of the image they point to now, ascending.

        Asked for several times a step, and compared once for the same tables.
        """
        tasks, features = self.tasks(), self.features()
        if features is None:
            return np.empty(0, dtype=np.int64)
        known = self._embedded
        if known is None or known[0] is not tasks or known[1] is not features:
            known = self._embedded = (tasks, features, features.embedded(tasks))
            known[2].setflags(write=False)
        return known[2]

    def examples(self, rows: NDArray[np.int64]) -> Examples:
        """Features of some rows of ``tasks()``, which must be embedded: a view, nothing copied."""
        features = self.features()
        if features is None:
            raise RuntimeError("examples were asked for before anything was embedded")
        state = self.backbone_state
        return shown(features.examples(self.tasks().ids[rows]), state, self.sync.classes)

    def labels(self) -> dict[int, str]:
        """Labels that say something of the config's classes, by task id."""
        sync = self.sync
        return self.tasks().usable_labels(sync.classes, sync.task)

    def classes_by_task(self) -> dict[int, tuple[str, ...]]:
        """The classes that each label holds, by task id: one, or one for each of its boxes."""
        task = self.sync.task
        return {i: classes_in(task, label) for i, label in self.labels().items()}

    def counts(self, ids: Iterable[int] | None = None) -> Counter[str]:
        """Labels (of boxes: boxes) by class, of all labeled tasks or of some."""
        labels = self.labels()
        some = labels.values() if ids is None else (labels[i] for i in ids)
        return class_counts(self.sync.task, some)

    def images_by_class(self) -> Counter[str]:
        """Labeled images that hold each class."""
        return class_counts(self.sync.task, self.labels().values(), once_an_image=True)

    def unchosen(self) -> list[tuple[str, ...]]:
        """The classes of each label that was not chosen by likelihood of being rare."""
        labels = self.classes_by_task()
        return [names for i, names in labels.items() if self.ledger.origin(i) in UNBIASED]

    def unbiased_counts(self) -> Counter[str]:
        """Labels (boxes) by class that were not chosen by likelihood of being rare."""
        return self.counts(i for i in self.labels() if self.ledger.origin(i) in UNBIASED)


def shown(examples: Examples, state: BackboneState | None, classes: tuple[str, ...]) -> Examples:
    """Stored examples of a frozen model as a miner over ``classes`` is to see them."""
    known = state or BackboneState(fingerprint="", how="")
    return task_of(known.task).shown(examples, head=known.classes, classes=classes)


def device(name: str) -> str:
    """``auto`` is the first CUDA device where there is one, else the processor."""
    if name != "auto":
        return name
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"
