"""`rarefirst connect` and `disconnect`: the reconcile loop's own connecting, from the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backend.errors import MissingConfiguration
from backend.jobs import Jobs
from backend.settings import Settings

if TYPE_CHECKING:
    from backend.labelstudio.connection_record import ConnectionReport
    from backend.reconcile.loop import Reconciler


def connect_project(
    settings: Settings,
    project_id: int,
    *,
    own_url: str | None,
    dry_run: bool,
    take_over: bool = False,
    consent: bool = True,
) -> ConnectionReport:
    """Connect a project and have the worker look at it.

    Args:
        settings: the service's.
        project_id: which project.
        own_url: our address as Label Studio reaches it; None: as the settings say.
        dry_run: only say what would be done.
        take_over: the queue may take the place of scores that somebody else set.
        consent: it may take the place of a model version that is ours or nobody's.

    Raises:
        BackendError: where Label Studio cannot be reached or refuses.
    """
    jobs = Jobs(settings)
    outcome = _reconciler(settings, jobs).connect(
        project_id, own_url=own_url, dry_run=dry_run, take_over=take_over, consent=consent
    )
    if not dry_run:
        store = jobs.stores.find(project_id)
        if store is not None:
            jobs.look(store)
    return outcome


def disconnect_project(settings: Settings, project_id: int, *, dry_run: bool) -> ConnectionReport:
    """Put back what connecting changed.

    Raises:
        BackendError: where Label Studio cannot be reached or refuses.
    """
    return _reconciler(settings, Jobs(settings)).disconnect(project_id, dry_run=dry_run)


def _reconciler(settings: Settings, jobs: Jobs) -> Reconciler:
    if settings.missing:
        raise MissingConfiguration(settings.missing)
    # Takes seconds to import: not before it is clear that it can be used.
    from backend.labelstudio.client import LabelStudioClient
    from backend.reconcile.loop import Reconciler

    client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key)
    return Reconciler(settings, client, jobs.stores)
