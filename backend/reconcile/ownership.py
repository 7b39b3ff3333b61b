"""Whose the project's model version is: what a person or another backend set is left alone.

`rarefirst connect` takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.instance import version_prefix
from backend.labelstudio.connection import find_connection
from backend.labelstudio.connection_record import VERSION_PREFIX
from backend.projects import Publications
from backend.reconcile.context import ProjectContext


@dataclass(frozen=True)
class Ownership:
    """Whether the model version is ours to set.

    Attributes:
        ours: we may switch it.
        owner: whose it is, in words, where it is not ours.
        lost: it is ours, but Label Studio no longer holds the scores that it names.
    """

    ours: bool
    owner: str = ""
    lost: bool = False


def ownership(context: ProjectContext, publications: Publications) -> Ownership:
    """Judge by what Label Studio said last."""
    project, record = context.project, context.connection
    if project is None:
        return Ownership(False, "not known yet")
    now, served = project.model_version, publications.published
    # Emptied: by a person who switched predictions off, or by Label Studio because the current
    # version was deleted. Only in the second case are the scores gone.
    if (
        not now
        and served is not None
        and served.name not in context.client.model_versions(context.project_id)
    ):
        return Ownership(True, lost=True)
    allowed = {""} if served is None else {served.name}
    if publications.candidate is not None:
        allowed.add(publications.candidate.name)
    if record is not None:
        if served is None:
            allowed.add(record.title)
        if record.replaceable_model_version is not None:
            allowed.add(record.replaceable_model_version)
    if now in allowed or (served is None and _left_by_us(context, now)):
        return Ownership(True)
    named = f"{now!r}" if now else "empty (also set by switching predictions off)"
    return Ownership(
        False,
        f"{named}, set by a person or another backend; "
        f"`rarefirst connect --project {context.project_id} --take-over` takes it",
    )


def _left_by_us(context: ProjectContext, version: str) -> bool:
    """Whether a version was published by this service before it lost its memory.

    With our mark it was. With another mark it may be another service's, unless the project has
    no other connection than ours.
    """
    prefix = version_prefix(context.settings.data_dir)
    if version.startswith(prefix):
        return True
    if not version.startswith(VERSION_PREFIX):
        return False
    connections = context.client.connections(context.project_id)
    ours = find_connection(connections, context.settings.url, own_prefix=prefix)
    return ours is not None and len(connections) == 1
