"""`rarefirst score`: judge image files with a project's active version."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from backend.cores import usable_cores
from backend.errors import BackendError, MediaError
from backend.judging import Judge, NothingToJudgeWith
from backend.preannotation import class_of
from backend.projects import ProjectStore, ProjectStores
from backend.settings import Settings
from backend.simulation.images import readable
from backend.why_rare import TaskWhy, newest_of_tail, why_rare
from models.image_kinds import SUFFIXES

if TYPE_CHECKING:
    from models.types import Examples


logger = logging.getLogger(__name__)


class FileScore(BaseModel):
    """What is said of one file.

    Attributes:
        rarity: in [0, 1], likelihood that it shows a rare class; None where it cannot be read.
        error: why it cannot be read, else empty.
        why: labeled tasks of rare classes that it is like, and what the heads say.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    rarity: float | None = None
    predicted: str = ""
    confidence: float | None = None
    error: str = ""
    why: TaskWhy | None = None


class FileScores(BaseModel):
    """What is said of all of them, rarest first."""

    model_config = ConfigDict(frozen=True)

    project: int
    version: str
    tail: tuple[str, ...]
    files: tuple[FileScore, ...]


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the image files below the folders named, each once, sorted.

    Raises:
        BackendError: where a path does not exist or nothing is found.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
            found.update(dict.fromkeys(sorted(file for file in inside if file.is_file())))
        elif path.exists():
            found[path] = None
        else:
            raise BackendError(f"{path} does not exist; name image files or folders of them")
    if not found:
        raise BackendError(
            f"no image files in {', '.join(map(str, paths))}; endings looked for: "
            f"{' '.join(sorted(SUFFIXES))}"
        )
    return list(found)


def score_files(settings: Settings, project_id: int, paths: Sequence[Path]) -> FileScores:
    """Judge image files.

    Raises:
        BackendError: where the project, its version or the files are missing.
    """
    files = image_files(paths)
    stores = ProjectStores(settings.data_dir, settings.label_studio_url)
    store = stores.connected(project_id)
    try:
        judge = Judge.load(store, None)
    except NothingToJudgeWith as error:
        raise BackendError(str(error)) from error
    largest = settings.max_image_mb * 2**20

    def load(index: int) -> bytes:
        try:
            if files[index].stat().st_size > largest:
                raise MediaError(f"larger than {settings.max_image_mb} MiB")
            return files[index].read_bytes()
        except OSError as error:
            raise MediaError(error.strerror or str(error)) from error

    judged = judge.judge(
        range(len(files)),
        load,
        max_pixels=settings.max_image_megapixels * 1_000_000,
        batch=settings.embed_batch,
        threads=usable_cores(),
    )
    scores = [
        FileScore(file=readable(files[index]), error=reason)
        for index, reason in judged.failures.items()
    ]
    found = judged.judgement
    why: dict[int, TaskWhy] = {}
    if judged.examples is not None:
        why = _why(store, judge.version, judged.examples)
    if found is not None:
        scores += [
            FileScore(
                file=readable(files[index]),
                rarity=float(found.rarity[row]),
                predicted=class_of(judge.classes, found, row),
                confidence=float(found.confidence[row]),
                why=why.get(index),
            )
            for row, index in enumerate(found.ids.tolist())
        ]
    scores.sort(key=lambda score: (score.rarity is None, -(score.rarity or 0.0), score.file))
    return FileScores(
        project=project_id, version=judge.version, tail=judge.tail, files=tuple(scores)
    )


def _why(store: ProjectStore, name: str, examples: Examples) -> dict[int, TaskWhy]:
    """Why each file is taken for rare, compared to the project's labels as they are stored."""
    from backend.mirror_reader import MirrorReader
    from backend.reconcile.context import shown
    from backend.reconcile.frozen_models import known_state
    from backend.reconcile.state import SyncState
    from models.errors import CorruptVersion
    from models.recipes.load_miner import load_miner
    from models.registry import VersionRegistry
    from models.tasks import classes_in
    from models.tasks.base import LabeledTexts

    try:
        version = VersionRegistry(store.path("versions")).load(name)
        miner = load_miner(version.path)
    except CorruptVersion as error:  # deleted or damaged since it judged
        logger.warning("why files are rare cannot be said: %s", error)
        return {}
    sync = store.read("sync.json", SyncState) or SyncState()
    reader = MirrorReader(store.path("mirror"))
    fingerprint = version.card.backbone_fingerprint
    tasks, table = reader.tasks(), reader.features(fingerprint)
    if tasks is None or table is None:
        return {}
    labels = tasks.usable_labels(version.card.classes, sync.task)
    known = newest_of_tail(
        {i: classes_in(sync.task, text) for i, text in labels.items()}, version.card.tail
    )
    ids = np.intersect1d(known, tasks.ids[table.embedded(tasks)])
    state = known_state(store, fingerprint)
    return why_rare(
        miner,
        examples,
        LabeledTexts(
            shown(table.examples(ids), state, version.card.classes),
            tuple(labels[int(i)] for i in ids),
        ),
    )
