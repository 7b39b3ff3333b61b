"""The child process of Bootstrap: `rarefirst bootstrap RUN_DIR`.

A process of its own frees its memory when it ends, can be killed, and resumes from its
checkpoint. It ends itself when the worker that started it is gone.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from pathlib import Path

from backend.files import write_atomically
from backend.opened_images import OpenedImages
from backend.reconcile.actions.bootstrap import BootstrapRun
from models.backbones.images import open_image
from models.errors import ImageError
from models.tasks.base import task_of

logger = logging.getLogger(__name__)


def main(run_dir: Path, *, parent: int) -> int:
    """Train the run's model and leave it in ``RUN_DIR/backbone``; returns the exit code.

    Args:
        run_dir: the run.
        parent: process id of the worker, which may be gone before this process looks for it.
    """
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()
    config = BootstrapRun.model_validate_json((run_dir / "run.json").read_bytes())
    readable, labels = [], []
    for task_id, label in sorted(config.labels.items()):
        path = run_dir / "images" / str(task_id)
        try:
            open_image(path.read_bytes(), max_pixels=config.max_pixels)
        except ImageError as error:
            logger.warning("task %s is left out: %s", task_id, error)
            continue
        readable.append(path)
        labels.append(label)
    backbone = task_of(config.task).train(
        OpenedImages(
            lambda row: readable[row].read_bytes(), len(readable), max_pixels=config.max_pixels
        ),
        labels,
        wanted=config,
        steps=config.steps,
        device=config.device,
        run_dir=run_dir,
        progress=lambda done, total, message="": write_atomically(
            run_dir / "progress", f"{done} {total}"
        ),
    )
    partial = run_dir / "backbone.partial"
    shutil.rmtree(partial, ignore_errors=True)
    backbone.save(partial)
    partial.rename(run_dir / "backbone")
    return 0


def end_with_parent(parent: int) -> None:
    """End this process as soon as another one is its parent."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
