"""`rarefirst score`: judge image files with a project's active version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backend.cores import usable_cores
from backend.errors import BackendError, MediaError
from backend.judging import Judge, NothingToJudgeWith
from backend.preannotation import class_of
from backend.projects import ProjectStores
from backend.settings import Settings
from backend.simulation.images import readable
from models.image_kinds import SUFFIXES


class FileScore(BaseModel):
    """What is said of one file.

    Attributes:
        rarity: in [0, 1], likelihood that it shows a rare class; None where it cannot be read.
        error: why it cannot be read, else empty.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    rarity: float | None = None
    predicted: str = ""
    confidence: float | None = None
    error: str = ""


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
    if found is not None:
        scores += [
            FileScore(
                file=readable(files[index]),
                rarity=float(found.rarity[row]),
                predicted=class_of(judge.classes, found, row),
                confidence=float(found.confidence[row]),
            )
            for row, index in enumerate(found.ids.tolist())
        ]
    scores.sort(key=lambda score: (score.rarity is None, -(score.rarity or 0.0), score.file))
    return FileScores(
        project=project_id, version=judge.version, tail=judge.tail, files=tuple(scores)
    )
