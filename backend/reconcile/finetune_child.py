"""The child process of a fine-tune: `rarefirst finetune-child RUN_DIR`.

It fetches the images, trains, judges, and ends. It yields to everything else (niceness, few
threads), holds its device, and ends itself when its worker is gone or the project is paused: what
it has done is kept, and the next try goes on from there.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from backend.cores import wait_without_spinning
from backend.device_lock import take_device
from backend.errors import BackendError, MediaError
from backend.files import write_atomically
from backend.finetunes import (
    ChildFailure,
    Finetune,
    FinetuneRun,
    ImageAddresses,
    ReadTasks,
    local_day,
)
from backend.jobs import Jobs
from backend.opened_images import OpenedImages
from backend.projects import ProjectStore
from backend.reconcile.finetune_children import BUSY, LEFT, NO_MEMORY, NO_ROOM
from backend.settings import Settings
from models.backbones.images import open_image
from models.config import FinetuneConfig
from models.detection.boxes import from_text
from models.errors import ConfigError, Diverged, ImageError, ModelError, NotEnoughLabels
from models.tasks.base import DETECTION
from models.types import Progress

logger = logging.getLogger(__name__)

_NICE = 10
_WATCH_S = 0.5
_SAY_S = 0.5
_LOCK_WAIT_S = 10.0
#: Tries that wait for images which may be had later; then the run goes without them.
_PATIENT_TRIES = 3
# EFBIG: more than the process may write (ulimit -f).
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: What torch and safetensors say of both, in errors of no kind of their own.
_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "can't start new thread",
)
_ROOM_WORDS = ("no space left", "storagefull", "disk quota exceeded", "file too large")


class Media(Protocol):
    """The part of the image fetcher that is needed here."""

    def fetch(self, uri: str, *, task_id: int, project_key: str) -> bytes:
        """The image file at an address; raises MediaError."""


def main(run_dir: Path, *, parent: int, settings: Settings) -> int:
    """Carry a run out, as far as it is not done yet; returns the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the worker says when
    os.nice(_NICE)
    # Where memory runs out, this process is to go, and not the one that serves the queue.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    wait_without_spinning()
    run = Finetune(run_dir.resolve())
    store = ProjectStore(run.path.parent.parent)
    threading.Thread(target=_end_when_left, args=(parent, store), daemon=True).start()
    if run.lock(wait_s=_LOCK_WAIT_S) is None:
        return BUSY
    try:
        code = _guarded(run, store, settings)
    finally:
        _hint(store, settings)
    return code


def _guarded(run: Finetune, store: ProjectStore, settings: Settings) -> int:
    """Carry it out; what goes wrong is one sentence in ``failure.json``."""
    try:
        about = run.run
        if about is None:
            raise BackendError(f"{run.path / 'run.json'} cannot be read")
        if take_device(settings.data_dir, about.config.device) is None:
            return BUSY
        carry_out(run, about, store, settings)
    except (ConfigError, Diverged, NotEnoughLabels) as error:
        return _failed(run, str(error), code=1, final=True)
    except (BackendError, ModelError) as error:
        return _failed(run, str(error), code=1)
    except Exception as error:
        code, reason = shortage(error)
        if not code:
            raise
        return _failed(run, reason, code=code)
    return 0


def carry_out(run: Finetune, about: FinetuneRun, store: ProjectStore, settings: Settings) -> None:
    """Fetch, train, judge."""
    spent = _Spent(run)
    pictures, ids = _pictures(run, about, store, settings, spent.tell)
    import torch

    torch.set_num_threads(about.threads)
    index = {name: number for number, name in enumerate(about.classes)}
    held_out, seen = set(about.held_out), set(about.seen)
    incumbent = store.path("backbones", about.incumbent[:16])
    common: _Common = {
        "ids": np.asarray(ids, dtype=np.int64),
        "class_names": about.classes,
        "tail": [index[name] for name in about.tail],
        "held_out": np.fromiter((i in held_out for i in ids), bool, len(ids)),
        "seen": np.fromiter((i in seen for i in ids), bool, len(ids)),
        "config": about.config,
        "run_dir": run.path,
        "seed": about.seed,
        "progress": spent.tell,
    }
    if about.task == DETECTION:
        from models.backbones.detector import Detector
        from models.recipes.finetune_detector import finetune_detector

        detector = Detector.load(incumbent, device=about.config.device)
        boxes = [from_text(about.labels[i]) for i in ids]
        finetune_detector(detector, pictures, boxes, **common)
    else:
        from models.backbones import Backbone
        from models.recipes.finetune_backbone import finetune_backbone

        backbone = Backbone.load(incumbent, device=about.config.device)
        targets = [index[about.labels[i]] for i in ids]
        finetune_backbone(backbone, pictures, targets, **common)
    spent.end()


class _Common(TypedDict):
    """What both recipes are told."""

    ids: NDArray[np.int64]
    class_names: tuple[str, ...]
    tail: list[int]
    held_out: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    config: FinetuneConfig
    run_dir: Path
    seed: int
    progress: Progress


# Images ---------------------------------------------------------------------------------------


def _pictures(
    run: Finetune,
    about: FinetuneRun,
    store: ProjectStore,
    settings: Settings,
    tell: Callable[..., None],
) -> tuple[OpenedImages, list[int]]:
    """The images that can be read, and their tasks, ascending; the same ones in every try."""
    folder, decided = run.path / "images", run.path / "read.json"
    if not decided.exists():
        folder.mkdir(exist_ok=True)
        addresses = ImageAddresses.model_validate_json((run.path / "images.json").read_bytes())
        patient = run.record.tries < _PATIENT_TRIES
        read = _fetch(addresses.of_task, about, folder, store, settings, tell, patient=patient)
        if not read:
            raise BackendError("none of the labeled images could be read")
        write_atomically(decided, ReadTasks(ids=tuple(sorted(read))).model_dump_json())
    ids = list(ReadTasks.model_validate_json(decided.read_bytes()).ids)

    def stored(row: int) -> bytes:
        return (folder / str(ids[row])).read_bytes()

    return OpenedImages(stored, len(ids), max_pixels=about.max_pixels), ids


def _fetch(
    uris: dict[int, str],
    about: FinetuneRun,
    folder: Path,
    store: ProjectStore,
    settings: Settings,
    tell: Callable[..., None],
    *,
    patient: bool,
) -> list[int]:
    """Bring the images that are not there yet; returns the tasks whose image can be read.

    Raises: BackendError: where some may be had later, and ``patient``: which ones take part is
        decided once for the whole run, so not by a host that is away for a moment.
    """
    media = media_of(settings)

    def bring(task_id: int) -> None:
        target = folder / str(task_id)
        if not target.exists():
            data = media.fetch(uris[task_id], task_id=task_id, project_key=store.key)
            open_image(data, max_pixels=about.max_pixels).load()
            partial = folder / f".{task_id}"
            partial.write_bytes(data)
            partial.replace(target)

    read: list[int] = []
    later: list[str] = []
    with ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch") as pool:
        futures = {task_id: pool.submit(bring, task_id) for task_id in sorted(about.labels)}
        try:
            for done, (task_id, future) in enumerate(futures.items()):
                tell(done, len(futures), "fetching labeled images")
                try:
                    future.result()
                except (MediaError, ImageError) as error:
                    logger.warning("task %s is left out: %s", task_id, error)
                    if isinstance(error, MediaError) and error.retryable:
                        later.append(str(error))
                    continue
                read.append(task_id)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if later and patient:
        raise BackendError(
            f"{len(later)} of {len(futures)} labeled images could not be had now: {later[0]}"
        )
    return read


def media_of(settings: Settings) -> Media:
    """Where images come from."""
    from backend.labelstudio.client import LabelStudioClient
    from backend.labelstudio.media import MediaFetcher

    client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key)
    return MediaFetcher.from_settings(client, settings)


# What is told ---------------------------------------------------------------------------------


class _Spent:
    """Writes ``progress.json``, twice a second at most, with the seconds spent on each day."""

    def __init__(self, run: Finetune) -> None:
        self._path = run.path / "progress.json"
        before = run.progress
        self._spent = dict(before.spent_s)
        self._progress = before
        self._began_s, self._told_s = time.time(), 0.0
        self._counted = time.monotonic()

    def tell(self, done: int, total: int, message: str = "") -> None:
        """Say how far it is."""
        self._progress = self._progress.model_copy(
            update={"done": done, "total": total, "message": message}
        )
        if time.monotonic() - self._told_s >= _SAY_S:
            self._write()

    def end(self) -> None:
        """Say that it is done."""
        self._progress = self._progress.model_copy(
            update={"done": self._progress.total, "message": "ended"}
        )
        self._write()

    def _write(self) -> None:
        now, day = time.monotonic(), local_day()
        self._spent[day] = self._spent.get(day, 0.0) + now - self._counted
        self._counted = self._told_s = now
        told = self._progress.model_copy(
            update={
                "at": datetime.now(UTC),
                "began_s": self._began_s,
                "pid": os.getpid(),
                "spent_s": dict(self._spent),
            }
        )
        write_atomically(self._path, told.model_dump_json())


def _failed(run: Finetune, reason: str, *, code: int, final: bool = False) -> int:
    logger.error("%s", reason)
    try:
        write_atomically(
            run.path / "failure.json", ChildFailure(reason=reason, final=final).model_dump_json()
        )
    except OSError as error:
        logger.error("even that could not be written: %s", error)
    return code


def shortage(error: Exception) -> tuple[int, str]:
    """Whether an error says that memory, or room on the disk, ran out: exit code and sentence."""
    said = str(error).strip()
    detail = f" ({said.splitlines()[0][:200]})" if said else ""
    number = error.errno if isinstance(error, OSError) else None
    words = said.lower()
    if number in _NO_ROOM or any(some in words for some in _ROOM_WORDS):
        return NO_ROOM, f"the disk is full{detail}"
    short = isinstance(error, MemoryError) or number == errno.ENOMEM
    if short or any(some in words for some in _MEMORY_WORDS):
        return NO_MEMORY, f"there was not enough memory{detail}"
    return 0, ""


def _hint(store: ProjectStore, settings: Settings) -> None:
    """Have the worker look at once; should that fail, its timer looks later."""
    try:
        Jobs(settings).look(store)
    except Exception:
        logger.exception("the worker could not be told")


def _end_when_left(parent: int, store: ProjectStore) -> None:
    """End when the worker is gone, or the project is paused, disconnected or deleted."""
    while os.getppid() == parent and not store.paused and store.path("project.json").exists():
        time.sleep(_WATCH_S)
    os._exit(LEFT)
