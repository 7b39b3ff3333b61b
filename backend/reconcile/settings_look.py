"""Look at the extra params of a project's connection, and keep what they come to.

Asking for connections makes Label Studio call our /health and /setup, so this is not done in every
round: when the worker meets a project, when a /setup brought other extra params than are known,
and now and then.
"""

from __future__ import annotations

import functools
import logging
import time

from backend.errors import LabelStudioRefused, LabelStudioUnavailable, ProjectGone
from backend.instance import version_prefix
from backend.labelstudio.connection import find_connection
from backend.project_settings import FILE, Known, decide, digest, kept
from backend.reconcile.context import ProjectContext

logger = logging.getLogger(__name__)


def look(context: ProjectContext) -> None:
    """Read the project's settings where that is due; the context then goes by them."""
    if not _due(context):
        return
    service, store = context.service, context.store
    try:
        connections = context.client.connections(context.project_id)
    except ProjectGone:
        raise
    except (LabelStudioRefused, LabelStudioUnavailable) as error:
        if isinstance(error, LabelStudioUnavailable) and kept(store) is None:
            raise  # nothing is made by the service's settings that the project's own may forbid
        logger.warning("project %s: its settings stay: %s", context.project_id, error)
        context.settings_missed_at = time.monotonic()
        return
    context.settings_looked_at, context.settings_missed_at = time.monotonic(), None
    ours = find_connection(connections, service.url, own_prefix=version_prefix(service.data_dir))
    if ours is None:
        return  # whoever looks for the connection itself says what to do about that
    before = kept(store)
    found = decide(
        service,
        ours.extra_params,
        known=known_names(),
        seen=tuple(sorted({digest(connection.extra_params) for connection in connections})),
        before=before,
    )
    if found == before:
        return
    if before is None or found.overrides != before.overrides:
        logger.info("project %s: own settings: %s", context.project_id, found.overrides or "none")
    store.write(FILE, found)
    context.take_settings()


def _due(context: ProjectContext) -> bool:
    at, missed_at, now = context.settings_looked_at, context.settings_missed_at, time.monotonic()
    if missed_at is not None:
        # Whatever hints say: a look makes Label Studio call /setup, which may hint again.
        return now - missed_at >= context.service.timer_s
    return at is None or context.was_hinted("settings") or now - at >= context.service.discover_s


@functools.cache
def known_names() -> Known:
    """The scorers, frozen models and ways to fine-tune that there are."""
    from models.backbones import architectures
    from models.rebalancing import STRATEGIES
    from models.recipes.choose_scorer import AUTO
    from models.tasks.scorer_names import ALL

    return {
        "scorer": ALL,
        "backbone": architectures(),
        "finetune_strategy": (*STRATEGIES, AUTO),
    }
