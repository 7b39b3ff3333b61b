"""Pausing a project: the loop leaves it alone, what is published stays."""

from __future__ import annotations

from backend.jobs import Jobs
from backend.settings import Settings


def pause_project(settings: Settings, project_id: int) -> None:
    """Stop working on a project after the round that runs.

    Raises:
        NotConnected: where the project is not connected.
    """
    Jobs(settings).stores.connected(project_id).path("paused").touch()


def resume_project(settings: Settings, project_id: int) -> None:
    """Go on with a project, at once.

    Raises:
        NotConnected: where the project is not connected.
    """
    jobs = Jobs(settings)
    store = jobs.stores.connected(project_id)
    store.path("paused").unlink(missing_ok=True)
    jobs.look(store)
