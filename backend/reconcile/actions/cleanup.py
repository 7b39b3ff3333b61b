"""Cleanup: old sets of scores leave Label Studio gently.

Deleting a whole version is one transaction that keeps annotators waiting for as long as it takes
(measured: 23 s for 2,000). So predictions go one at a time, with a pause at least as long as the
deletion itself, and the work gives way as soon as something happens. What the project uses now is
never deleted: a person may choose any version that Label Studio lists.
"""

from __future__ import annotations

import logging
import time

from backend.instance import version_prefix
from backend.labelstudio.deletion import delete_prediction
from backend.projects import Publications
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan

logger = logging.getLogger(__name__)

_AT_ONCE = 20


def run(context: ProjectContext, plan: Plan) -> None:
    """Delete predictions of the oldest leftover that the project does not use."""
    # Asked for again: a person may have chosen an older version since the look.
    project = context.look_at_project()
    waiting = deletable(context.store.publications(), project.model_version)
    if not waiting:
        return
    name = waiting[0]
    if context.to_delete[0] != name or not context.to_delete[1]:
        # A few at a time: reading a whole set is seconds of Label Studio's work at one go.
        some = context.client.prediction_ids(context.project_id, name, at_most=_AT_ONCE)
        context.to_delete = (name, some)
    ids = context.to_delete[1]
    if not ids:
        _settled(context, name)
        return
    while ids:
        context.store.note("cleanup", 0, len(waiting), f"{name}, a few at a time")
        began = time.monotonic()
        delete_prediction(context.client, ids[-1])
        ids.pop()
        if context.hinted() or context.store.paused:
            return  # whatever else is due comes first; the rest is deleted afterwards
        time.sleep(max(context.settings.delete_pause_s, time.monotonic() - began))


def deletable(known: Publications, used: str) -> tuple[str, ...]:
    """Leftovers without the one that the project uses.

    Args:
        known: what is published and what is left over.
        used: the project's model version.
    """
    return tuple(name for name in known.leftovers if name != used)


def find_forgotten(context: ProjectContext, versions: dict[str, int]) -> None:
    """Make leftovers of our sets of scores that nobody remembers.

    They come back with a restored backup, or stay behind when the data directory is lost.

    Args:
        context: the project.
        versions: predictions by model version, as Label Studio holds them.
    """
    known = context.store.publications()
    named = {
        publication.name
        for publication in (known.published, known.previous, known.candidate)
        if publication is not None
    }
    prefix = version_prefix(context.settings.data_dir)
    forgotten = [
        name
        for name in versions
        if name.startswith(prefix) and name not in named and name not in known.leftovers
    ]
    if forgotten:
        logger.info("project %s: forgotten sets of scores: %s", context.project_id, forgotten)
        left = (*known.leftovers, *sorted(forgotten))
        context.store.write("publication.json", known.model_copy(update={"leftovers": left}))


def _settled(context: ProjectContext, name: str) -> None:
    """Nothing of a leftover is in Label Studio any more."""
    known = context.store.publications()
    left = tuple(leftover for leftover in known.leftovers if leftover != name)
    context.store.write("publication.json", known.model_copy(update={"leftovers": left}))
