"""An exported project (format JSON) as images with known labels.

The export holds no label config. So the control is the one `Choices` that its annotations name,
and the image's key the one in `task.data` that looks like an image; where there are several, a
person says which. Images are read from a folder here: nothing is fetched.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AwareDatetime, BeforeValidator, Field, TypeAdapter, ValidationError

from backend.errors import BackendError, MediaError
from backend.labelstudio.image_bytes import decode_data_uri
from backend.labelstudio.records import Object, Record
from backend.simulation.images import LabeledImage, LabeledImages, file_image, key_of, readable
from models.image_kinds import SUFFIXES
from models.tasks.classification import AnnotationVote, Classification, Conflict

UNLABELED, SKIPPED = "not annotated", "skipped by every annotator"
OTHER, SEVERAL = "annotated without a choice", "several choices at once"
CONFLICT = "annotators disagree"

_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before an upload's name
_SHOWN = 80


def _user_id(value: object) -> object:
    return value.get("id") if isinstance(value, Mapping) else value


def _or_empty(value: object) -> object:
    return () if value is None else value


class _Annotation(Record):
    """One annotation of an export; only what the vote looks at, and nothing of it must be there."""

    result: Annotated[tuple[Object, ...], BeforeValidator(_or_empty)] = ()
    was_cancelled: bool = False
    ground_truth: bool = False
    completed_by: Annotated[int | None, BeforeValidator(_user_id)] = None
    updated_at: AwareDatetime | None = None


class _Task(Record):
    id: int | None = None
    data: Object
    annotations: Annotated[tuple[_Annotation, ...], BeforeValidator(_or_empty)] = Field(...)


_TASKS = TypeAdapter(tuple[_Task, ...])


def read_export(
    path: Path,
    *,
    images: Path | None = None,
    image_key: str = "",
    control: str = "",
    max_bytes: int,
) -> LabeledImages:
    """Read an export.

    Several annotations of a task are put to the vote, as the service does. Tasks without a label
    are counted by reason and left out.

    Args:
        path: the JSON file.
        images: where paths and addresses lead to; by default the file's folder.
        image_key: key of the image in ``task.data``; empty: the one there is.
        control: name of the ``Choices`` tag; empty: the one there is.
        max_bytes: larger images are refused when they are loaded.
    Raises: BackendError: if it is no such file, or a control or key must be named.
    """
    tasks = _read(path)
    control = control or _control(tasks)
    folder = (images or path.parent).resolve()
    if not folder.is_dir():
        raise BackendError(f"{folder} is no folder; --images names the folder with the images")
    labeled: list[tuple[_Task, str]] = []
    left_out = Counter[str]()
    for task in tasks:
        label, reason = _vote(task.annotations, control)
        if reason:
            left_out[reason] += 1
        else:
            labeled.append((task, label))
    key = image_key or _image_key([task for task, _ in labeled])
    found = [
        _image(task, label, task.data.get(key), key=key, folder=folder, max_bytes=max_bytes)
        for task, label in labeled
    ]
    return LabeledImages("export", tuple(found), left_out)


def _read(path: Path) -> tuple[_Task, ...]:
    try:
        parsed = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BackendError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(parsed, list):
        raise BackendError(
            f"{path} holds {type(parsed).__name__}, expected a list of tasks; export the project "
            "in the format JSON"
        )
    try:
        return _TASKS.validate_python(parsed)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BackendError(
            f"{path} is no export of tasks with annotations ({where}: {first['msg']}); export "
            "the project in the format JSON, not JSON-MIN"
        ) from error


def _choices(annotation: _Annotation) -> Iterator[tuple[str, Sequence[str]]]:
    """Control and chosen classes of each region that is a choice."""
    for region in annotation.result:
        value = region.get("value")
        chosen = value.get("choices") if isinstance(value, Mapping) else None
        if region.get("type") == "choices" and isinstance(chosen, list) and chosen:
            yield str(region.get("from_name")), [str(one) for one in chosen]


def _control(tasks: Sequence[_Task]) -> str:
    """The control that annotations name."""
    names = Counter(
        name
        for task in tasks
        for annotation in task.annotations
        if not annotation.was_cancelled
        for name, _ in _choices(annotation)
    )
    if len(names) == 1:
        return next(iter(names))
    if not names:
        raise BackendError(_nothing_chosen(tasks))
    raise BackendError(
        f"annotations name several controls ({', '.join(sorted(names))}); say which with --control"
    )


def _nothing_chosen(tasks: Sequence[_Task]) -> str:
    """Why there is nothing to replay."""
    boxes = sum(
        region.get("type") == "rectanglelabels"
        for task in tasks
        for annotation in task.annotations
        for region in annotation.result
    )
    if boxes:
        return (
            f"the export holds {boxes} boxes (RectangleLabels) and no choice; simulate replays "
            "projects of Choices only, one class an image"
        )
    return "no annotation of the export holds a choice; nothing can be replayed"


def _vote(annotations: Sequence[_Annotation], control: str) -> tuple[str, str]:
    """The label that wins, or why there is none."""
    if not annotations:
        return "", UNLABELED
    votes, several = [], False
    for annotation in annotations:
        if annotation.was_cancelled:
            continue
        chosen = next((some for name, some in _choices(annotation) if name == control), ())
        several |= len(chosen) > 1
        if len(chosen) == 1:
            votes.append(
                AnnotationVote(
                    label=chosen[0],
                    annotator=annotation.completed_by,
                    ground_truth=annotation.ground_truth,
                    at=annotation.updated_at,
                )
            )
    winner = Classification.vote(votes)
    if isinstance(winner, Conflict):
        return "", CONFLICT
    if winner is not None:
        return winner, ""
    if several:
        return "", SEVERAL
    return "", SKIPPED if all(one.was_cancelled for one in annotations) else OTHER


def _image_key(tasks: Sequence[_Task]) -> str:
    """The key of ``task.data`` that holds an image."""
    if not tasks:
        return ""
    keys = set.intersection(*(set(task.data) for task in tasks))
    fit = sorted(
        key
        for key in keys
        if sum(_looks_like_image(task.data[key]) for task in tasks) > len(tasks) / 2
    )
    if len(fit) == 1:
        return fit[0]
    texts = sorted(key for key in keys if isinstance(tasks[0].data[key], str))
    if not fit and len(texts) == 1:
        return texts[0]
    raise BackendError(
        f"found {', '.join(fit or texts) or 'no text'} in the tasks' data, expected one image; "
        "say which with --image-key"
    )


def _looks_like_image(value: object) -> bool:
    if not isinstance(value, str):
        return False
    if value[:5].lower() == "data:":
        return True
    return PurePosixPath(_path_of(value)).suffix.lower() in SUFFIXES


def _image(
    task: _Task, label: str, value: object, *, key: str, folder: Path, max_bytes: int
) -> LabeledImage:
    name = f"task {task.id}" if task.id is not None else "a task without an id"
    if not isinstance(value, str) or not value:
        return _missing(name, label, f"its data has no text under {key!r}")
    if value[:5].lower() == "data:":

        def decoded() -> bytes:
            return decode_data_uri(value, max_bytes=max_bytes)

        return LabeledImage(name=name, label=label, key=key_of(value), load=decoded)
    path = _find(folder, value)
    if path is None:
        return _missing(
            f"{name}, {value[:_SHOWN]}", label, f"no such file in {folder}; --images names another"
        )
    return file_image(path, f"{name}, {path.relative_to(folder)}", label, max_bytes=max_bytes)


def _missing(name: str, label: str, reason: str) -> LabeledImage:
    def load() -> bytes:
        raise MediaError(reason)

    return LabeledImage(name=readable(name), label=label, key=key_of(name, reason), load=load)


def _path_of(value: str) -> str:
    """The path in a path or address; of Label Studio's local files the one that they stand for."""
    try:
        parts = urlsplit(value)
    except ValueError:
        return value
    local = parse_qs(parts.query).get("d") if "/local-files" in parts.path else None
    return local[0] if local else unquote(parts.path)


def _find(folder: Path, value: str) -> Path | None:
    """The file below the folder that an address ends like: the longest end that is there.

    ``/data/upload/3/0a1b2c3d-cat.jpg`` is ``data/upload/3/...``, ``3/...``, the bare name, or the
    name that was uploaded, ``cat.jpg``.
    """
    # The text as it is comes last: a name may hold ? or #.
    for text in dict.fromkeys((_path_of(value), value)):
        parts = [part for part in text.split("/") if part not in ("", ".")]
        names = [parts[start:] for start in range(len(parts))]
        if parts and _UPLOAD.match(parts[-1]):
            names.append([_UPLOAD.sub("", parts[-1])])
        for name in names:
            try:
                path = folder.joinpath(*name).resolve()
                if path.is_relative_to(folder) and path.is_file():
                    return path
            except (OSError, ValueError):  # a name too long, or one with a zero byte
                continue
    return None
