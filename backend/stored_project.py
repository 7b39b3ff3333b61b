"""A project as it is stored: what the loop knows of it, read beside the loop."""

from __future__ import annotations

from backend.errors import BackendError
from backend.mirror import TaskTable
from backend.mirror_reader import MirrorReader
from backend.project_settings import effective
from backend.projects import ProjectStore, ProjectStores
from backend.reconcile.context import Tail
from backend.reconcile.state import BackboneState, SyncState
from backend.settings import Settings


class StoredProject:
    """The facts of a project that a command may need.

    Attributes:
        settings: those that count for the project.
        store: its folder.
    """

    def __init__(self, settings: Settings, project_id: int) -> None:
        self.store: ProjectStore = ProjectStores(
            settings.data_dir, settings.label_studio_url
        ).connected(project_id)
        self.settings = effective(settings, self.store)
        self.project_id = project_id
        self.reader = MirrorReader(self.store.path("mirror"))
        self._tasks: TaskTable | None = None

    @property
    def sync(self) -> SyncState:
        """How far the mirror has read."""
        return self.store.read("sync.json", SyncState) or SyncState()

    @property
    def tail(self) -> Tail:
        """The sticky tail."""
        return self.store.read("tail.json", Tail) or Tail()

    @property
    def backbone_state(self) -> BackboneState | None:
        """The active frozen model."""
        return self.store.read("backbone.json", BackboneState)

    def tasks(self) -> TaskTable:
        """All mirrored tasks.

        Raises: BackendError: where nothing is mirrored yet, or the mirror cannot be read.
        """
        if self._tasks is None:
            found = self.reader.tasks()
            if found is None:
                raise BackendError(
                    "nothing of the project is stored yet; `rarefirst status` says what the loop "
                    "waits for"
                )
            self._tasks = found
        return self._tasks

    def labels(self) -> dict[int, str]:
        """Labels that say something of the config's classes, by task id."""
        sync = self.sync
        return self.tasks().usable_labels(sync.classes, sync.task)
