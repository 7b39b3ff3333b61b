"""Pausing a project: the loop leaves it alone, what is published stays."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from backend.jobs import Jobs
from backend.settings import Settings


class Pause(BaseModel):
    """Whether the loop leaves a project alone."""

    model_config = ConfigDict(frozen=True)

    project: int
    paused: bool


def pause_project(settings: Settings, project_id: int) -> Pause:
    """Stop working on a project after the round that runs.

    Raises:
        NotConnected: where the project is not connected.
    """
    Jobs(settings).stores.connected(project_id).path("paused").touch()
    return Pause(project=project_id, paused=True)


def resume_project(settings: Settings, project_id: int) -> Pause:
    """Go on with a project, at once.

    Raises:
        NotConnected: where the project is not connected.
    """
    jobs = Jobs(settings)
    store = jobs.stores.connected(project_id)
    store.path("paused").unlink(missing_ok=True)
    jobs.look(store)
    return Pause(project=project_id, paused=False)
