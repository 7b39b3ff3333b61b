"""Embed: every mirrored image has features of the active backbone.

Works in chunks, so that the loop can look whether labels came. An image that cannot be read is
marked with its reason and tried again with growing pauses.
"""

from __future__ import annotations

import logging
import time

import numpy as np
from numpy.typing import NDArray

from backend.embedding import embed
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan
from backend.reconcile.state import Failure, Failures

logger = logging.getLogger(__name__)

_FIRST_RETRY_S = 60.0
_LONGEST_RETRY_S = 24 * 3600.0


def run(context: ProjectContext, plan: Plan) -> None:
    """Embed one chunk of the labeled tasks or of the pool."""
    settings = context.settings
    rows = missing_rows(context, labeled=plan.which == "labeled")
    if not len(rows):
        rows = retry_rows(context)
    # A random chunk of the pool is a fair sample of it for a first queue.
    order = np.random.default_rng(settings.seed).permutation(len(rows))
    chosen = rows[order[: settings.embed_chunk]]
    tasks = context.tasks()
    uris = {int(tasks.ids[row]): str(tasks.uris[row]) for row in chosen}
    digests = {int(tasks.ids[row]): str(tasks.digests[row]) for row in chosen}
    backbone = context.backbone()
    context.store.note("embed", 0, len(uris), f"{plan.which} images")
    result = embed(
        backbone,
        list(uris),
        lambda task_id: context.media.fetch(
            uris[task_id], task_id=task_id, project_key=context.store.key
        ),
        max_pixels=settings.max_image_megapixels * 1_000_000,
        batch=settings.embed_batch,
        threads=settings.fetch_threads,
        progress=lambda done, total, message="": context.store.note(
            "embed", done, total, f"{plan.which} images"
        ),
        should_stop=context.hinted if plan.idle else context.must_look_again,
    )
    if len(result.ids):
        context.mirror.add_features(
            backbone.fingerprint,
            ids=result.ids,
            digests=[digests[int(i)] for i in result.ids],
            vectors=result.features,
            logits=result.logits,
        )
        context.forget_features()
    _remember_failures(context, result.failures, result.retryable, digests, result.ids)


def missing_rows(context: ProjectContext, *, labeled: bool) -> NDArray[np.int64]:
    """Rows of labeled tasks, or of the pool, without features whose image was not tried yet."""
    tasks = context.tasks()
    if labeled:
        usable = context.labels()
        wanted = np.fromiter((int(i) in usable for i in tasks.ids), bool, len(tasks))
    else:
        wanted = np.asarray(tasks.states == "unlabeled", dtype=bool)
    return np.flatnonzero(_without_features(context) & wanted & ~_tried(context, due=None))


def retry_rows(context: ProjectContext) -> NDArray[np.int64]:
    """Rows whose image could not be read, and may be tried again now.

    These come last: an image on a host that hangs must not keep labels waiting.
    """
    return np.flatnonzero(_without_features(context) & _tried(context, due=time.time()))


def _without_features(context: ProjectContext) -> NDArray[np.bool_]:
    missing = np.ones(len(context.tasks()), dtype=bool)
    missing[context.embedded_rows()] = False
    return missing


def _tried(context: ProjectContext, *, due: float | None) -> NDArray[np.bool_]:
    """Tasks whose image could not be read; with ``due``, those whose next try is not later."""
    tasks = context.tasks()
    tried = np.zeros(len(tasks), dtype=bool)
    failures = context.failures.by_task
    for task_id, failure in failures.items():
        row = int(np.searchsorted(tasks.ids, task_id))
        if row < len(tasks) and tasks.ids[row] == task_id and tasks.digests[row] == failure.digest:
            tried[row] = due is None or failure.next_try_s <= due
    return tried


def _remember_failures(
    context: ProjectContext,
    failures: dict[int, str],
    retryable: frozenset[int],
    digests: dict[int, str],
    embedded: NDArray[np.int64],
) -> None:
    known = dict(context.failures.by_task)
    before = dict(known)
    for task_id in embedded.tolist():
        known.pop(task_id, None)
    now = time.time()
    for task_id, reason in failures.items():
        old = before.get(task_id)
        tries = old.tries + 1 if old and old.digest == digests[task_id] else 1
        pause = min(_FIRST_RETRY_S * 2 ** (tries - 1), _LONGEST_RETRY_S)
        known[task_id] = Failure(
            reason=reason,
            digest=digests[task_id],
            tries=tries,
            next_try_s=now + (pause if task_id in retryable else _LONGEST_RETRY_S),
        )
        logger.warning("task %s: %s", task_id, reason)
    if known != before:
        context.store.write("failures.json", Failures(by_task=known))
