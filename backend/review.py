"""`rarefirst review`: the labels that the last fine-tune doubts, and a tab with their tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backend.errors import BackendError, MissingConfiguration
from backend.finetunes import Finetune, Finetunes
from backend.settings import Settings
from backend.stored_project import StoredProject
from models.detection.boxes import from_text
from models.tasks.base import DETECTION

if TYPE_CHECKING:
    from backend.labelstudio.records import View


class DoubtedLabel(BaseModel):
    """One label; shares are of 1. Of boxes: how many there are of each class, and were found."""

    model_config = ConfigDict(frozen=True)

    task: int
    label: str
    instead: str = Field(description="what the network takes it for")
    label_share: float
    instead_share: float
    score: float = Field(description="difficulty or loss: how much it is doubted")


class LabelReview(BaseModel):
    """Labels that a person should look at again, the most doubtful first.

    Attributes:
        finetune: number of the run that doubts them.
        by: ``difficulty``: how often a label was un-learned; ``loss``.
        out_of_sample: the network that doubts a label had not learned from it.
        looked_at: labels of the run's list that were changed, or whose task is gone.
        tab: the id of the tab, None where none was asked for or there is nothing to show.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    finetune: int
    by: Literal["difficulty", "loss"]
    out_of_sample: bool
    labels: tuple[DoubtedLabel, ...]
    looked_at: int = 0
    tab: int | None = None


def review_project(settings: Settings, project_id: int, *, tab: bool = False) -> LabelReview:
    """The labels that the last fine-tune doubts and that nobody has changed since.

    Args:
        settings: the service's.
        project_id: which project.
        tab: make a tab of them in Label Studio.

    Raises:
        NotConnected: where the project is not connected.
        BackendError: where there was no fine-tune yet, or Label Studio cannot be asked.
    """
    from models.recipes.review_labels import Review

    project = StoredProject(settings, project_id)
    run = _last_reviewed(project)
    try:
        review = Review.model_validate_json((run.path / "review.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise BackendError(f"the review of fine-tune {run.number} cannot be read") from error
    labels = project.labels()
    standing = [doubt for doubt in review.suspects if labels.get(doubt.id) == doubt.label]
    view = _tab(settings, project_id, [doubt.id for doubt in standing]) if tab else None
    return LabelReview(
        project=project_id,
        finetune=run.number,
        by=review.by,
        out_of_sample=review.out_of_sample,
        labels=tuple(
            DoubtedLabel(
                task=doubt.id,
                label=_shown(doubt.label, project.sync.task),
                instead=doubt.instead,
                label_share=doubt.label_share,
                instead_share=doubt.instead_share,
                score=doubt.score,
            )
            for doubt in standing
        ),
        looked_at=len(review.suspects) - len(standing),
        tab=view.id if view is not None else None,
    )


def _shown(label: str, task: str) -> str:
    if task != DETECTION:
        return label
    from models.recipes.review_boxes import counted

    return counted(box.label for box in from_text(label) if box.label is not None)


def _last_reviewed(project: StoredProject) -> Finetune:
    for run in reversed(Finetunes(project.store).all()):
        if (run.path / "review.json").exists():
            return run
    raise BackendError(
        "no fine-tune has looked at the labels yet; `rarefirst finetune --project "
        f"{project.project_id}` begins one, with --dry-run it says what it would do"
    )


def _tab(settings: Settings, project_id: int, tasks: list[int]) -> View | None:
    if settings.missing:
        raise MissingConfiguration(settings.missing)
    if not tasks:
        return None
    from backend.labelstudio.client import LabelStudioClient
    from backend.labelstudio.review_tab import make_review_tab

    client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key)
    return make_review_tab(client, project_id, tasks)
