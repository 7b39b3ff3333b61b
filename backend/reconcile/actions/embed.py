"""Embed: every mirrored image has features of the active backbone.

Works in chunks, so that the loop can look whether labels came. An image that cannot be read is
marked with its reason and tried again: with pauses doubling from a minute to a day where somebody
may mend it at the other end, once a day where nothing but our settings or another address would.
Either way at once when those change.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import time
from collections import Counter

import numpy as np
import PIL
from numpy.typing import NDArray

from backend.embedding import Embedded, embed
from backend.labelstudio.media import safe_name
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan
from backend.reconcile.state import Failure, Failures
from backend.settings import Settings

logger = logging.getLogger(__name__)

_FIRST_RETRY_S = 60.0
_LONGEST_RETRY_S = 24 * 3600.0
_REASONS_LOGGED = 3

_now = time.time


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
        batch=min(settings.embed_batch, context.task.at_once),
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
    for task_id in result.damaged:
        # What is cached may be what is damaged.
        context.media.forget(uris[task_id], project_key=context.store.key)
    _remember_failures(context, result, uris, digests)


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
    return np.flatnonzero(_without_features(context) & _tried(context, due=_now()))


def unreadable(context: ProjectContext) -> dict[int, Failure]:
    """Images that cannot be read, by task; those of tasks that are gone or mended are forgotten."""
    kept = context.failures
    if not kept.by_task:
        return {}
    tasks = context.tasks()
    current = tasks.ids[_without_features(context) & _tried(context, due=None)]
    ids = set(current.tolist())
    found = {task_id: failure for task_id, failure in kept.by_task.items() if task_id in ids}
    if len(found) < len(kept.by_task):
        context.keep_failures(Failures(reader=kept.reader, by_task=found))
    return found


def reader(settings: Settings) -> str:
    """A digest of what decides whether an image can be read."""
    try:
        version = importlib.metadata.version("rarefirst")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    about = [
        version,
        PIL.__version__,
        settings.label_studio_url,
        sorted(settings.allowed_hosts),
        settings.max_image_mb,
        settings.max_image_megapixels,
        settings.fetch_timeout_s,
    ]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def failed_again(
    before: Failure | None, *, reason: str, digest: str, image: str, retryable: bool, now: float
) -> Failure:
    """What is remembered of an image after another try that failed.

    Args:
        before: what was remembered, None for a first try.
        reason: why it failed now.
        digest: of the address.
        image: the address as people may see it.
        retryable: somebody may mend it without our settings or the address changing.
        now: Unix seconds.
    """
    tries = before.tries + 1 if before is not None and before.digest == digest else 1
    pause = min(_FIRST_RETRY_S * 2.0 ** min(tries - 1, 30), _LONGEST_RETRY_S)
    return Failure(
        reason=reason,
        digest=digest,
        image=image,
        tries=tries,
        next_try_s=now + (pause if retryable else _LONGEST_RETRY_S),
    )


def _without_features(context: ProjectContext) -> NDArray[np.bool_]:
    missing = np.ones(len(context.tasks()), dtype=bool)
    missing[context.embedded_rows()] = False
    return missing


def _tried(context: ProjectContext, *, due: float | None) -> NDArray[np.bool_]:
    """Tasks whose image could not be read; with ``due``, those whose next try is not later."""
    tasks, kept = context.tasks(), context.failures
    tried = np.zeros(len(tasks), dtype=bool)
    if not kept.by_task or not len(tasks):
        return tried
    if due is not None and kept.reader != reader(context.settings):
        due = None  # all of them
    rows = np.searchsorted(tasks.ids, np.fromiter(kept.by_task, np.int64, len(kept.by_task)))
    for row, (task_id, failure) in zip(rows.tolist(), kept.by_task.items(), strict=True):
        if row < len(tasks) and tasks.ids[row] == task_id and tasks.digests[row] == failure.digest:
            tried[row] = due is None or failure.next_try_s <= due
    return tried


def _remember_failures(
    context: ProjectContext, result: Embedded, uris: dict[int, str], digests: dict[int, str]
) -> None:
    kept, reads = context.failures, reader(context.settings)
    known = dict(kept.by_task)
    if kept.reader != reads:
        # Those that this chunk did not hold stay due, and begin anew with their pauses.
        fresh = {"tries": 0, "next_try_s": 0.0}
        known = {task_id: failure.model_copy(update=fresh) for task_id, failure in known.items()}
    for task_id in result.ids.tolist():
        known.pop(task_id, None)
    now = _now()
    new: Counter[str] = Counter()
    for task_id, reason in result.failures.items():
        before = kept.by_task.get(task_id)
        if before is None or (before.reason, before.digest) != (reason, digests[task_id]):
            new[reason] += 1
        known[task_id] = failed_again(
            known.get(task_id),
            reason=reason,
            digest=digests[task_id],
            image=safe_name(uris[task_id]),
            retryable=task_id in result.retryable,
            now=now,
        )
        logger.debug("task %s: %s", task_id, reason)
    if new:
        _log(context.project_id, new)
    found = Failures(reader=reads if known else "", by_task=known)
    if found != kept:
        context.keep_failures(found)


def _log(project_id: int, new: Counter[str]) -> None:
    """One line for however many: `status` lists each."""
    said = "; ".join(
        f"{count} times {reason}" for reason, count in new.most_common(_REASONS_LOGGED)
    )
    more = len(new) - _REASONS_LOGGED
    logger.warning(
        "project %s: %s images could not be read: %s%s; `rarefirst status --project %s` lists them",
        project_id,
        sum(new.values()),
        said,
        f" and {more} further reasons" if more > 0 else "",
        project_id,
    )
