"""Everything that a project's page shows at once, from small files."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from backend.dashboard.classes import ClassesPanel, classes_panel
from backend.dashboard.finetunes import FinetuneCard, finetune_cards
from backend.dashboard.found import FoundPanel, found_panel
from backend.dashboard.precision import PrecisionPanel, precision_panel
from backend.errors import NotConnected
from backend.finetunes import Finetunes
from backend.project_settings import effective
from backend.projects import ProjectStore, ProjectStores
from backend.reconcile.state import SyncState
from backend.reports import ProjectReport, RoundEntry
from backend.settings import Settings
from backend.status import ProjectStatus, project_status, worker_status
from backend.versions import VersionList, list_versions
from models.tasks.base import DETECTION


class ProjectPage(BaseModel):
    """One project.

    Attributes:
        looked: the loop has looked at it once.
        boxes: boxes are drawn.
        finetuning: a person may ask for a fine-tune; asked: somebody did, and it has not begun.
    """

    model_config = ConfigDict(frozen=True)

    status: ProjectStatus
    worker_alive: bool
    looked: bool
    boxes: bool
    classes: ClassesPanel
    found: FoundPanel
    precision: PrecisionPanel
    versions: VersionList
    finetunes: tuple[FinetuneCard, ...]
    finetuning: bool
    asked: bool


class NowPage(BaseModel):
    """What the loop does now; small enough to be asked for every few seconds."""

    model_config = ConfigDict(frozen=True)

    status: ProjectStatus
    worker_alive: bool


def now_page(settings: Settings, project_id: int) -> NowPage:
    """What the loop does now.

    Raises:
        NotConnected: where the project is not connected.
    """
    _, status = _found(settings, project_id)
    return NowPage(status=status, worker_alive=worker_status(settings).alive)


def project_page(settings: Settings, project_id: int) -> ProjectPage:
    """Everything but what needs the mirror.

    Raises:
        NotConnected: where the project is not connected.
    """
    store, status = _found(settings, project_id)
    report = store.read("report.json", ProjectReport)
    known = report or ProjectReport(project_id=project_id, at=datetime.now(UTC))
    sync = store.read("sync.json", SyncState) or SyncState()
    own = effective(settings, store)
    history = store.history(RoundEntry)
    boxes = sync.task == DETECTION
    found = found_panel(history, known, boxes=boxes)
    by_chance = found.curves[0].prevalence if found.curves else None
    wish = Finetunes(store).wish
    return ProjectPage(
        status=status,
        worker_alive=worker_status(settings).alive,
        looked=report is not None,
        boxes=boxes,
        classes=classes_panel(known, sync.classes, boxes=boxes, threshold=own.tail_threshold),
        found=found,
        precision=precision_panel(history, random=by_chance),
        versions=list_versions(settings, project_id),
        finetunes=finetune_cards(store),
        finetuning=own.finetune != "off",
        asked=wish is not None and wish.what == "start",
    )


def _found(settings: Settings, project_id: int) -> tuple[ProjectStore, ProjectStatus]:
    store = ProjectStores(settings.data_dir, settings.label_studio_url).connected(project_id)
    status = project_status(store)
    if status is None:  # taken from us between two lines
        raise NotConnected(f"project {project_id} is not connected any more")
    return store, status
