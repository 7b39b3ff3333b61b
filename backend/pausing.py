"""Pausing a project: the loop leaves it alone, what is published stays."""

from __future__ import annotations

from backend.errors import BackendError
from backend.jobs import Jobs
from backend.projects import ProjectStore
from backend.settings import Settings


def pause_project(settings: Settings, project_id: int) -> None:
    """Stop working on a project after the round that runs.

    Raises:
        BackendError: where the project is not connected.
    """
    _store(Jobs(settings), project_id).path("paused").touch()


def resume_project(settings: Settings, project_id: int) -> None:
    """Go on with a project, at once.

    Raises:
        BackendError: where the project is not connected.
    """
    jobs = Jobs(settings)
    store = _store(jobs, project_id)
    store.path("paused").unlink(missing_ok=True)
    card = store.card
    if card is not None:
        jobs.hint(card.project_id, card.created_s, "changed")


def _store(jobs: Jobs, project_id: int) -> ProjectStore:
    store = jobs.stores.find(project_id)
    if store is None:
        raise BackendError(
            f"project {project_id} is not connected; `rarefirst status` lists those that are"
        )
    return store
