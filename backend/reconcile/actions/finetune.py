"""Finetune: the child process of a fine-tune runs. It is started and left alone, never waited for.

A run that a kill or a failure ended is started again and goes on from its checkpoint; why it
failed, and when it is tried again, is noted before.
"""

from __future__ import annotations

import logging
import time

from backend.cores import usable_cores
from backend.errors import BackendError
from backend.finetune_config import finetune_config
from backend.finetunes import Finetune, FinetuneRun, Finetunes, Wish
from backend.reconcile import finetune_children as children
from backend.reconcile import frozen_models
from backend.reconcile.actions.bootstrap import trainable
from backend.reconcile.context import ProjectContext
from backend.reconcile.held_out import held_out_of
from backend.reconcile.plan import Plan
from backend.settings import Settings
from models.config import FinetuneConfig
from models.tasks.base import CLASSIFICATION, DETECTION

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S = 60.0
_LONGEST_PAUSE_S = 6 * 3600.0


def run(context: ProjectContext, plan: Plan) -> None:
    """Note why the last try failed, or start another; a new run where none is there."""
    kept = Finetunes(context.store)
    current, wish = kept.current(), kept.wish
    about = current.run if current is not None else None
    if wish is not None and about is not None and about.asked and wish.at <= about.at:
        kept.take_up(wish)  # killed after this run was made for it
    if current is None:
        current = _create(context, kept, plan.why, wish)
        if wish is not None:
            kept.take_up(wish)
    else:
        failure = children.end_of(current)
        if failure:
            note_failure(current, failure)
            logger.error(
                "project %s: fine-tune %s: %s", context.project_id, current.number, failure
            )
            return
    try:
        children.start(current)
    except OSError as error:
        note_failure(current, f"its process could not be started: {error.strerror or error}")
        return
    logger.info("project %s: fine-tune %s: %s", context.project_id, current.number, plan.why)


def note_failure(run: Finetune, reason: str) -> None:
    """Say why a try failed, and when the next one is: pauses double up to six hours."""
    record = run.record
    pause = min(_FIRST_PAUSE_S * 2.0 ** min(record.tries, 30), _LONGEST_PAUSE_S)
    update = {"failure": reason, "retry_s": time.time() + pause, "tries": record.tries + 1}
    run.keep(record.model_copy(update=update))
    children.forget(run)


def _create(context: ProjectContext, kept: Finetunes, why: str, wish: Wish | None) -> Finetune:
    settings, labels, state = context.settings, context.labels(), context.backbone_state
    task, counts = context.sync.task, context.counts()
    if state is None:
        raise BackendError("a fine-tune was asked for before there is a frozen model")
    known = frozen_models.trained_on(context.store, state)
    tasks = context.tasks()
    uris = {
        int(tasks.ids[row]): str(tasks.uris[row])
        for row in tasks.rows(state="labeled")
        if int(tasks.ids[row]) in labels
    }
    return kept.create(
        FinetuneRun(
            number=kept.next_number(),
            why=why,
            asked=wish is not None,
            incumbent=state.fingerprint,
            classes=context.sync.classes,
            # A class that nobody labeled can be neither learned nor judged.
            tail=tuple(
                name for name in context.tail.names if name in context.sync.classes and counts[name]
            ),
            task=task,
            labels=labels,
            held_out=held_out_of(labels),
            # Of a model that nobody wrote this down for, every label may have been.
            seen=tuple(sorted(labels if known is None else labels.keys() & known)),
            config=config_of(settings, wish, task),
            seed=settings.seed,
            threads=max(1, usable_cores() // 2),
            max_pixels=settings.max_image_megapixels * 1_000_000,
        ),
        uris,
    )


def config_of(
    settings: Settings, wish: Wish | None = None, task: str = CLASSIFICATION
) -> FinetuneConfig:
    """The training's own settings, as the project's have them and a person says otherwise."""
    return finetune_config(
        settings,
        # Also what was fine-tuned here before began with given weights, if they were given. Of a
        # detector these are the trunk's: the rest is always trained here.
        from_scratch=settings.weights == "none" if task == DETECTION else trainable(settings),
        strategy=wish.strategy if wish else None,
        epochs=wish.epochs if wish else None,
        task=task,
    )
