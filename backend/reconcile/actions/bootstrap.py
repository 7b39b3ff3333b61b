"""Bootstrap: there is a frozen model.

Where one was given (weights, or a factory of the user's own) it is loaded and kept as it is.
Where none was given, the settings' architecture is trained on the labels at hand in a child
process, again when the labels have doubled; until there are enough of them it serves untrained,
which is good for nothing but a diversity order, and the card says so.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from backend.errors import LabelStudioUnavailable, MediaError, Unauthorized
from backend.files import write_atomically
from backend.reconcile import frozen_models
from backend.reconcile.context import ProjectContext, Stopped, device
from backend.reconcile.held_out import learnable
from backend.reconcile.plan import Plan
from backend.reconcile.state import BackboneState
from backend.settings import Settings
from models.errors import ModelError
from models.tasks.base import CLASSIFICATION, FrozenModel, Wanted, task_of

logger = logging.getLogger(__name__)

_RETRY_S = 300.0
_POLL_S = 0.2


class BootstrapRun(Wanted):
    """Everything the child process needs (``run.json`` in the run directory).

    Attributes:
        labels: label by task id, as the mirror keeps it; the image of a task lies in
            ``images/<id>``.
        task: which kind of labels these are.
    """

    labels: dict[int, str]
    steps: int
    device: str
    max_pixels: int
    task: str = CLASSIFICATION


class BootstrapFailure(BaseModel):
    """Why the last try ended without a model (``bootstrap_failed.json``).

    Attributes:
        what: what was tried.
        source: the settings that it was tried with; others are tried at once.
    """

    model_config = ConfigDict(frozen=True)

    reason: str
    retry_s: float
    what: str = "training a first model"
    source: str = ""


def wanted(settings: Settings, classes: tuple[str, ...]) -> Wanted:
    """Which frozen model the settings ask for, for a label config's classes."""
    return Wanted(
        architecture=settings.backbone,
        weights=settings.weights,
        feature_layer=settings.feature_layer,
        classes=classes,
        input_size=settings.detector_size_px,
        detections=settings.top_detections,
        seed=settings.seed,
    )


def source(context: ProjectContext) -> str:
    """What tells the model that is wished for from another one."""
    return context.task.source(wanted(context.settings, context.sync.classes))


def trainable(settings: Settings, task: str = CLASSIFICATION) -> bool:
    """Whether the model that is wished for is trained on the project's labels."""
    return task_of(task).trainable(wanted(settings, ()))


def too_alike(context: ProjectContext) -> str:
    """Why the labels at hand train nothing yet, of too few classes; empty where they do."""
    counts = context.counts(learnable(context.labels(), context.settings))
    kinds = sum(counts[name] > 0 for name in context.sync.classes)
    return context.task.too_alike if kinds < context.task.least_kinds else ""


def blocked(context: ProjectContext) -> str:
    """Why training is not tried now, empty if it may be."""
    failure = context.store.read("bootstrap_failed.json", BootstrapFailure)
    if failure is None:
        return ""
    left = failure.retry_s - time.time()
    if left <= 0 or left > _RETRY_S:  # further away than any pause: the clock jumped back
        return ""
    if failure.source not in {"", source(context)}:
        return ""
    return f"{failure.what} failed and is tried again later: {failure.reason}"


def run(context: ProjectContext, plan: Plan) -> None:
    """Load the given model, or train one, and make it the active one."""
    state = context.backbone_state
    if state is None or state.source != source(context):
        _take_as_it_is(context)
        return
    _train(context)


def _take_as_it_is(context: ProjectContext) -> None:
    settings, before = context.settings, context.backbone_state
    context.store.note("bootstrap", 0, 1, f"loading {settings.backbone}")
    try:
        wish = wanted(settings, context.sync.classes)
        made = context.task.make(wish, device=device(settings.device))
    except ModelError as error:
        if before is None or before.task != context.task.name:
            raise
        # The one that is there goes on: a project's wish must not cost it its queue.
        _failed(context, str(error), what=f"loading {settings.backbone}")
        return
    _activate(
        context,
        made.model,
        BackboneState(
            fingerprint=made.model.fingerprint,
            how=made.how,
            source=source(context),
            classes=made.classes,
            task=context.task.name,
        ),
    )


def _activate(
    context: ProjectContext,
    backbone: FrozenModel,
    state: BackboneState,
    trained_on: Collection[int] = (),
) -> None:
    folder = context.backbone_folder(backbone.fingerprint)
    if not folder.exists():
        temporary = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(temporary, ignore_errors=True)
        backbone.save(temporary)
        temporary.rename(folder)
    frozen_models.remember_trained_on(folder, trained_on)
    frozen_models.make_active(context.store, state)
    frozen_models.drop_unneeded(context)
    context.forget_features()


def _train(context: ProjectContext) -> None:
    settings, usable = context.settings, context.labels()
    labels = learnable(usable, settings)
    run_dir = _prepare(context, labels)
    if run_dir is None:
        _failed(context, "none of the labeled images could be read")
        return
    result = run_dir / "backbone"
    log = run_dir / "log.txt"
    code = 0 if result.exists() else _child(context, run_dir, log, len(labels))
    if code != 0 or not result.exists():
        reason = _last_line(log) or f"the child process ended with code {code}"
        _failed(context, reason)
        return
    backbone = context.task.load(result, device=device(settings.device))
    _activate(
        context,
        backbone,
        BackboneState(
            fingerprint=backbone.fingerprint,
            how="bootstrapped",
            # Held-out ones too: another training is due when there are twice as many of all.
            labels=len(usable),
            source=source(context),
            classes=backbone.class_names or (),
            task=context.task.name,
        ),
        trained_on=_labels_of(run_dir),
    )
    context.store.path("bootstrap_failed.json").unlink(missing_ok=True)
    shutil.rmtree(run_dir, ignore_errors=True)


def _labels_of(run_dir: Path) -> Collection[int]:
    """The tasks that a run was trained on."""
    run = BootstrapRun.model_validate_json((run_dir / "run.json").read_bytes())
    return run.labels.keys()


def _failed(context: ProjectContext, reason: str, *, what: str = "training a first model") -> None:
    """Say why there is no model, and when it is tried again; the queue goes on without."""
    logger.error("project %s: %s failed: %s", context.project_id, what, reason)
    failure = BootstrapFailure(
        reason=reason,
        retry_s=time.time() + _RETRY_S,
        what=what,
        source=source(context),
    )
    context.store.write("bootstrap_failed.json", failure)


def command(run_dir: Path) -> list[str]:
    """What is run; the child compares its parent with ours, who may die before it looks."""
    me = str(os.getpid())
    return [sys.executable, "-m", "backend.cli", "bootstrap", str(run_dir), "--parent", me]


def _child(context: ProjectContext, run_dir: Path, log: Path, labels: int) -> int:
    """Run the training to its end, saying how far it is; the exit code."""
    with log.open("ab") as output:
        child = subprocess.Popen(command(run_dir), stdout=output, stderr=subprocess.STDOUT)
    try:
        while child.poll() is None:
            done, total = _progress(run_dir)
            context.store.note("bootstrap", done, total, f"training on {labels} labels")
            context.leave_if_stopping()  # it goes on from its checkpoint
            time.sleep(_POLL_S)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    return child.returncode


def _prepare(context: ProjectContext, labels: dict[int, str]) -> Path | None:
    """The run directory of this snapshot: found again after a kill, so that the child resumes.

    Directories of older snapshots go: their labels are in Label Studio. None where no labeled
    image could be read.
    """
    settings, wish = context.settings, wanted(context.settings, context.sync.classes)
    steps: int = getattr(settings, context.task.steps_setting)
    words = repr((sorted(labels.items()), wish.classes, source(context), steps))
    run_dir = context.store.path("runs", hashlib.sha256(words.encode()).hexdigest()[:16])
    if (run_dir / "run.json").exists():
        return run_dir
    shutil.rmtree(context.store.path("runs"), ignore_errors=True)
    images = run_dir / "images"
    images.mkdir(parents=True)
    tasks = context.tasks()
    uris = {int(tasks.ids[row]): str(tasks.uris[row]) for row in tasks.rows(state="labeled")}
    read: dict[int, str] = {}

    def fetch(task_id: int) -> None:
        data = context.media.fetch(uris[task_id], task_id=task_id, project_key=context.store.key)
        (images / str(task_id)).write_bytes(data)

    with ThreadPoolExecutor(settings.fetch_threads, thread_name_prefix="fetch") as pool:
        futures = {task_id: pool.submit(fetch, task_id) for task_id in sorted(labels)}
        for done, (task_id, future) in enumerate(futures.items()):
            context.store.note("bootstrap", done, len(labels), "fetching labeled images")
            if context.stopping():
                pool.shutdown(wait=False, cancel_futures=True)
                raise Stopped
            try:
                future.result()
            except MediaError as error:
                logger.warning("task %s is left out of the first model: %s", task_id, error)
                continue
            except (LabelStudioUnavailable, Unauthorized):
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            read[task_id] = labels[task_id]
    if not read:
        return None
    config = BootstrapRun(
        **wish.model_dump(),
        labels=read,
        steps=steps,
        device=device(settings.device),
        max_pixels=settings.max_image_megapixels * 1_000_000,
        task=context.task.name,
    )
    write_atomically(run_dir / "run.json", config.model_dump_json())
    return run_dir


def _progress(run_dir: Path) -> tuple[int, int]:
    try:
        done, total = (run_dir / "progress").read_text().split()
    except (FileNotFoundError, ValueError):
        return 0, 1
    return int(done), int(total)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""
