"""`rarefirst backtest`: which scorer would have found how many rare ones of a project's labels."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from backend.errors import BackendError
from backend.project_settings import effective
from backend.projects import ProjectStore, ProjectStores
from backend.reconcile.made_with import miner_config
from backend.reconcile.state import SyncState
from backend.settings import Settings
from backend.stored_labels import stored_labels
from models.config import BacktestConfig
from models.recipes.backtest import backtest
from models.recipes.backtest_report import BacktestReport
from models.scorers import SCORERS
from models.tasks.base import DETECTION
from models.types import Progress, no_progress


class ProjectBacktest(BaseModel):
    """A backtest of a project.

    Attributes:
        scorer: what the project's settings say now.
        tail: its tail classes.
        labels_by_class: labels with features, in the label config's order.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    scorer: str
    tail: tuple[str, ...]
    labels_by_class: dict[str, int]
    report: BacktestReport


def backtest_project(
    settings: Settings,
    project_id: int,
    *,
    scorers: Sequence[str] = (),
    repeats: int | None = None,
    progress: Progress = no_progress,
) -> ProjectBacktest:
    """Compare scorers on the labels that are stored of a project.

    Args:
        settings: the service's; what the project says instead counts.
        project_id: Label Studio's.
        scorers: by name; all that there are by default.
        repeats: hold-outs; None: as many as is usual.
        progress: told after each fit.

    Raises:
        NotConnected: where the project is not connected.
        BackendError: where nothing is stored yet, the mirror cannot be read, or boxes are drawn.
        ConfigError: where a scorer is in no table.
        NoTailClass: if no class is in the tail, or all are.
        NotEnoughLabels: with how many there are and how many are needed.
    """
    store = ProjectStores(settings.data_dir, settings.label_studio_url).connected(project_id)
    own = effective(settings, store)
    _refuse_boxes(store, project_id)
    stored = stored_labels(store, own)
    names = stored.classes.names
    report = backtest(
        stored.labeled,
        classes=stored.classes,
        scorers=tuple(scorers) or tuple(SCORERS),
        config=miner_config(own),
        settings=BacktestConfig() if repeats is None else BacktestConfig(repeats=repeats),
        provenance=stored.provenance,
        seed=own.seed,
        progress=progress,
    )
    counts = [int((stored.labeled.targets == k).sum()) for k in range(len(names))]
    return ProjectBacktest(
        project=project_id,
        scorer=own.scorer,
        tail=tuple(names[k] for k in stored.classes.tail),
        labels_by_class=dict(zip(names, counts, strict=True)),
        report=report,
    )


def _refuse_boxes(store: ProjectStore, project_id: int) -> None:
    sync = store.read("sync.json", SyncState)
    if sync is not None and sync.task == DETECTION:
        raise BackendError(
            f"project {project_id} draws boxes (RectangleLabels); backtest replays projects of "
            "Choices only, one class an image"
        )
