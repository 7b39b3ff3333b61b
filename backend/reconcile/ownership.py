"""Whose the project's model version is: what a person or another backend set is left alone.

`rarefirst connect` takes back what is ours or nobody's, `--take-over` what is somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass

from backend.instance import version_prefix
from backend.labelstudio.connection_record import (
    VERSION_PREFIX,
    connections_to_us,
    rarefirst_mark,
)
from backend.projects import Publication, Publications
from backend.reconcile.context import ProjectContext


@dataclass(frozen=True)
class Ownership:
    """Whether the model version is ours to set.

    Attributes:
        ours: we may switch it.
        owner: whose it is, in words, where it is not ours.
        lost: it is ours, but the published queue is not served: its scores are gone, or a person
            said that what is served instead may be replaced.
        older: it is an earlier queue of ours, which the next publication takes the place of.
    """

    ours: bool
    owner: str = ""
    lost: bool = False
    older: bool = False


def ownership(context: ProjectContext, publications: Publications) -> Ownership:
    """Judge by what Label Studio said last."""
    project, record = context.project, context.connection
    if project is None:
        return Ownership(False, "not known yet")
    now, served = project.model_version, publications.published
    if served is not None and now == served.name:
        return Ownership(True, lost=context.scores_gone == served.name)
    allowed = {""} if served is None else set()
    if publications.candidate is not None:
        allowed.add(publications.candidate.name)
    prefix = version_prefix(context.settings.data_dir)
    if now in allowed:
        return Ownership(True)
    if record is not None and _consented(now, record.replaceable_model_version, prefix):
        # Nothing may be due: what was asked for is one publication, whose switch uses this up.
        return Ownership(True, lost=served is not None)
    if served is None:
        ours = _nothing_published_yet(context, now, prefix)
    else:
        # Emptied: by a person who switched predictions off, or by Label Studio because the current
        # version was deleted. An older queue of ours: chosen by a person, put back by saving a page
        # that was opened before the last publication, or by a restored backup. Of each pair, only
        # the last leaves the newest without scores.
        older = now.startswith(prefix)
        if (not now or older) and served.name not in context.client.model_versions(
            context.project_id
        ):
            return Ownership(True, lost=True)
        if older:
            return Ownership(True, older=True)
        ours = False
    return Ownership(True) if ours else Ownership(False, _owner(context, now, served))


def _consented(now: str, replaceable: str | None, own_prefix: str) -> bool:
    """Whether the user said that this version may be replaced.

    Another rarefirst may have published again since: what was said holds for all its versions.
    Of ours it holds for that one only: which of them a person chooses later is another matter.
    """
    if replaceable is None:
        return False
    if now == replaceable:
        return True
    mark = rarefirst_mark(now)
    return mark not in ("", rarefirst_mark(own_prefix)) and mark == rarefirst_mark(replaceable)


def _nothing_published_yet(context: ProjectContext, now: str, prefix: str) -> bool:
    """Whether the version is ours although this service remembers no publication.

    With our mark it was published by this service before it lost its memory. With another mark it
    may be another service's, unless the project has no other connection than ours. The title of
    our connection was put there by Label Studio, which also renames it with the connection.
    """
    if now.startswith(prefix):
        return True
    if context.connection is not None and now == context.connection.title:
        return True
    if now == context.not_ours:
        return False
    connections = context.client.connections(context.project_id)
    url = context.settings.url if context.connection is None else context.connection.url
    ours = connections_to_us(connections, url, own_prefix=prefix)
    alone = bool(ours) and len(connections) == len(ours)
    if any(connection.title == now for connection in ours) or (
        now.startswith(VERSION_PREFIX) and alone
    ):
        return True
    context.not_ours = now
    return False


def _owner(context: ProjectContext, now: str, served: Publication | None) -> str:
    """Whose the version is and what takes it back, in words."""
    connect = f"`rarefirst connect --project {context.project_id}`"
    take = f"{connect[:-1]} --take-over` takes it"
    newest = f"; {connect} takes it"
    if served is not None:
        newest = f"; choose {served.name!r} in the project's settings, or {connect}, to go on"
    record = context.connection
    if not now:
        return "empty (also set by switching predictions off), set by a person" + newest
    if record is not None and now == record.title:
        return (
            f"{now!r}, the title of our connection, chosen by a person: Label Studio then asks for "
            "each task that it opens, and serves them in no order" + newest
        )
    mark = rarefirst_mark(now).rstrip("-")
    if mark:
        return f"{now!r}, set by another rarefirst ({mark}); {take}"
    return f"{now!r}, set by a person or another backend; {take}"
