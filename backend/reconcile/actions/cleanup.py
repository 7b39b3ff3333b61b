"""Cleanup: old sets of scores leave Label Studio gently.

Deleting a whole version is one transaction that keeps annotators waiting for as long as it takes
(measured: 23 s for 2,000). So predictions go one at a time, with a pause at least as long as the
deletion itself, and the work gives way as soon as something happens.
"""

from __future__ import annotations

import contextlib
import time

from backend.errors import NotFound
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan

_AT_ONCE = 20


def run(context: ProjectContext, plan: Plan) -> None:
    """Delete the predictions of the oldest leftover."""
    known = context.store.publications()
    if not known.leftovers:
        return
    name = known.leftovers[0]
    ids = context.client.prediction_ids(context.project_id, name)
    for done, prediction_id in enumerate(ids):
        context.store.note("cleanup", done, len(ids), name)
        began = time.monotonic()
        with contextlib.suppress(NotFound):
            context.client.delete_prediction(prediction_id)
        if context.hinted() or done + 1 >= _AT_ONCE:
            return  # whatever else is due comes first; the rest is deleted afterwards
        time.sleep(max(context.settings.delete_pause_s, time.monotonic() - began))
    known = context.store.publications()
    left = tuple(leftover for leftover in known.leftovers if leftover != name)
    context.store.write("publication.json", known.model_copy(update={"leftovers": left}))
