"""What became of a project so far, for the command line: the panels that tell a series."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from backend.dashboard.classes import ClassesPanel
from backend.dashboard.finetunes import FinetuneCard
from backend.dashboard.found import FoundPanel
from backend.dashboard.precision import PrecisionPanel
from backend.dashboard.project import project_page
from backend.settings import Settings


class ProjectHistory(BaseModel):
    """The same figures as the dashboard's."""

    model_config = ConfigDict(frozen=True)

    project: int
    title: str
    found: FoundPanel
    precision: PrecisionPanel
    classes: ClassesPanel
    finetunes: tuple[FinetuneCard, ...]


def project_history(settings: Settings, project_id: int) -> ProjectHistory:
    """Read it from the files that the loop writes.

    Raises:
        NotConnected: where the project is not connected.
    """
    page = project_page(settings, project_id)
    return ProjectHistory(
        project=project_id,
        title=page.status.title,
        found=page.found,
        precision=page.precision,
        classes=page.classes,
        finetunes=page.finetunes,
    )
