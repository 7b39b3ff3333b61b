"""Connect: a connection made by hand in the settings page gets completed, once.

What a person changes afterwards is left alone and reported.
"""

from __future__ import annotations

from backend.errors import NotConnected
from backend.instance import version_prefix
from backend.labelstudio.connection import connect
from backend.reconcile.connected import known_before, remember, settle
from backend.reconcile.context import ProjectContext
from backend.reconcile.plan import Plan


def run(context: ProjectContext, plan: Plan) -> None:
    """Complete the connection and remember what was there before."""
    settings = context.settings
    report = connect(
        context.client,
        context.project_id,
        own_url=settings.url,
        basic_auth=settings.basic_auth,
        dry_run=False,
        adopt_only=True,
        move=bool(settings.own_url),
        own_prefix=version_prefix(settings.data_dir),
        record=known_before(context.store),
        remember=lambda record: remember(context.store, record),
    )
    if report.record is None:
        raise NotConnected(
            f"project {context.project_id} has no connection to us any more; "
            f"`rarefirst connect --project {context.project_id}` makes one"
        )
    settle(context.store, report.record)
    context.connected_with(report.record, report.problems)
    context.project = context.client.project(context.project_id)
