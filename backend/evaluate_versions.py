"""`rarefirst evaluate`: every kept version on the labels that are held out, and all fine-tunes.

Each version says what it takes an image for: from its frozen model's cached features, or, where an
image came after that model's time, by that model itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from backend.cores import usable_cores
from backend.errors import BackendError
from backend.finetunes import Finetunes
from backend.judging import Judge, NothingToJudgeWith
from backend.reconcile.context import shown
from backend.reconcile.finetune_child import media_of
from backend.reconcile.finetune_facts import run_report
from backend.reconcile.frozen_models import known_state, trained_on
from backend.reconcile.held_out import held_out_of
from backend.reconcile.made_with import HELD_OUT, made_with
from backend.reconcile.state import snapshot_of
from backend.reports import FinetuneReport
from backend.settings import Settings
from backend.stored_project import StoredProject
from models.class_metrics import ClassMetrics
from models.detection.boxes import from_text
from models.detection.coco import BoxMetrics, box_metrics
from models.errors import ModelError
from models.recipes.load_miner import load_miner
from models.registry import Version, VersionRegistry
from models.tasks import class_counts
from models.tasks.base import CLASSIFICATION, DETECTION
from models.types import FloatArray, Judgement

logger = logging.getLogger(__name__)

#: Class index of an image, and its boxes where these are asked for.
_Said = tuple[int, FloatArray | None]


class VersionFigures(BaseModel):
    """What one version is worth.

    Attributes:
        active: it orders the queue now.
        frozen_model: how the model that it was fitted on came to be, and its fingerprint's head.
        figures: on the held-out labels, of boxes COCO's on the detections that it keeps of each
            image; None where it could not be judged, and `why_not` says why.
        seen: held-out labels that it, or its frozen model, was fitted on all the same: before
            fine-tuning was on, or before they were looked at. Its figures are too good by these.
        missing: held-out labels that it could not be asked about.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    active: bool = False
    kind: str = ""
    frozen_model: str = ""
    figures: ClassMetrics | BoxMetrics | None = None
    seen: int = 0
    missing: int = 0
    why_not: str = ""


class Evaluation(BaseModel):
    """All of them side by side."""

    model_config = ConfigDict(frozen=True)

    project: int
    task: str = Field(CLASSIFICATION, description="which kind of labels")
    tail: tuple[str, ...]
    held_out: int
    held_out_by_class: dict[str, int] = Field(default_factory=dict)
    versions: tuple[VersionFigures, ...] = ()
    finetunes: tuple[FinetuneReport, ...] = Field((), description="oldest first")


def evaluate_project(settings: Settings, project_id: int) -> Evaluation:
    """Judge every version by the labels that are held out.

    Raises:
        NotConnected: where the project is not connected.
        BackendError: where nothing is stored yet, or the mirror cannot be read.
    """
    project = StoredProject(settings, project_id)
    labels, classes = project.labels(), project.sync.classes
    truth = {task: labels[task] for task in held_out_of(labels)}
    registry = VersionRegistry(project.store.path("versions"))
    active = registry.active()
    counts = class_counts(project.sync.task, truth.values())
    return Evaluation(
        project=project_id,
        task=project.sync.task,
        tail=project.tail.names,
        held_out=len(truth),
        held_out_by_class={name: counts[name] for name in classes if counts[name]},
        versions=tuple(
            _judged(settings, project, version, truth).model_copy(
                update={"active": active is not None and version.name == active.name}
            )
            for version in registry.list()
        ),
        finetunes=tuple(run_report(run) for run in Finetunes(project.store).all()),
    )


def _judged(
    settings: Settings, project: StoredProject, version: Version, truth: Mapping[int, str]
) -> VersionFigures:
    card, classes = version.card, project.sync.classes
    state = known_state(project.store, card.backbone_fingerprint)
    how = state.how if state is not None else "gone"
    row = VersionFigures(
        name=version.name, kind=card.kind, frozen_model=f"{how} {card.backbone_fingerprint[:8]}"
    )
    if state is not None and state.task != project.sync.task:
        return row.model_copy(update={"why_not": f"it is for {state.task}"})
    if card.classes != classes:
        return row.model_copy(update={"why_not": f"it tells {', '.join(card.classes)} apart"})
    if not truth:
        return row.model_copy(update={"why_not": "no label is held out yet"})
    try:
        said = _said(settings, project, version, truth)
    except ModelError as error:
        return row.model_copy(update={"why_not": str(error)})
    if not said:
        return row.model_copy(
            update={"why_not": "it could be asked about none of them", "missing": len(truth)}
        )
    return row.model_copy(
        update={
            "figures": _figures(project, said, truth),
            "seen": len(_seen(project, version) & said.keys()),
            "missing": len(truth) - len(said),
        }
    )


def _figures(
    project: StoredProject, said: Mapping[int, _Said], truth: Mapping[int, str]
) -> ClassMetrics | BoxMetrics:
    classes = project.sync.classes
    index = {name: number for number, name in enumerate(classes)}
    tail = [index[name] for name in project.tail.names if name in index]
    if project.sync.task == DETECTION:
        return box_metrics(
            [np.empty((0, 6)) if boxes is None else boxes for _, boxes in said.values()],
            [from_text(truth[task]) for task in said],
            class_names=classes,
            tail=tail,
        )
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for task, (predicted, _) in said.items():
        confusion[index[truth[task]], predicted] += 1
    return ClassMetrics.from_confusion(confusion, class_names=classes, tail=tail)


def _answers(found: Judgement) -> dict[int, _Said]:
    boxes = [None] * len(found.ids) if found.boxes is None else list(found.boxes)
    pairs = zip(found.predicted.tolist(), boxes, strict=True)
    return dict(zip(found.ids.tolist(), pairs, strict=True))


def _said(
    settings: Settings, project: StoredProject, version: Version, truth: Mapping[int, str]
) -> dict[int, _Said]:
    """What the version says, by task."""
    fingerprint = version.card.backbone_fingerprint
    tasks, table = project.tasks(), project.reader.features(fingerprint)
    said: dict[int, _Said] = {}
    if table is not None:
        ids = tasks.ids[table.embedded(tasks)]
        ids = ids[np.isin(ids, np.fromiter(truth, np.int64, len(truth)))]
        if len(ids):
            state = known_state(project.store, fingerprint)
            found = load_miner(version.path).judge(
                shown(table.examples(ids), state, version.card.classes)
            )
            said = _answers(found)
    missing = sorted(truth.keys() - said.keys())
    return said | (_asked(settings, project, version, missing) if missing else {})


def _asked(
    settings: Settings, project: StoredProject, version: Version, ids: list[int]
) -> dict[int, _Said]:
    """What the version says of images that its frozen model has not embedded."""
    if settings.missing:
        return {}
    tasks = project.tasks()
    uris = dict(zip(tasks.ids.tolist(), tasks.uris.tolist(), strict=True))
    media = media_of(settings)
    try:
        judged = Judge.load(project.store, version.name).judge(
            ids,
            lambda task: media.fetch(uris[task], task_id=task, project_key=project.store.key),
            max_pixels=settings.max_image_megapixels * 1_000_000,
            batch=settings.embed_batch,
            threads=usable_cores(),
        )
    except (NothingToJudgeWith, BackendError) as error:
        logger.warning("%s is not asked about %d images: %s", version.name, len(ids), error)
        return {}
    found = judged.judgement
    return {} if found is None else _answers(found)


def _seen(project: StoredProject, version: Version) -> set[int]:
    """Tasks that the version, or its frozen model, was fitted on."""
    seen: set[int] = set()
    made = made_with(version.card)
    if made is None or made.get(HELD_OUT) is not True:
        seen |= set(snapshot_of(version).ids)
    state = known_state(project.store, version.card.backbone_fingerprint)
    if state is not None:
        known = trained_on(project.store, state)
        seen |= set(project.labels()) if known is None else known
    return seen
