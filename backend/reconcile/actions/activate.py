"""Activate: the version that a person pinned is the active one, with its frozen model.

What cannot be served any more (damaged, deleted, fitted for other classes) is not pinned any more
either; `status` says why.
"""

from __future__ import annotations

import logging

from backend.errors import VersionRefused
from backend.pinning import pinned, release
from backend.reconcile.activation import put_in_place, usable
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan

logger = logging.getLogger(__name__)


def run(context: ProjectContext, plan: Plan) -> None:
    """Put the pinned version in place, or give the pin up."""
    pin = pinned(context.store)
    if pin is None:
        return
    try:
        version, state = usable(context.store, context.registry, pin.version, sync=context.sync)
    except VersionRefused as error:
        logger.warning("project %s: %s", context.project_id, error)
        release(context.store, pin.version, str(error))
        return
    put_in_place(context.store, context.registry, version, state)
    context.forget_features()
