"""What connecting tells people."""

from __future__ import annotations

from collections.abc import Sequence

from backend.labelstudio.client import Connection, ProjectInfo
from backend.labelstudio.drift import another_rarefirst, several

BLOCKED = (
    "Label Studio refuses to talk to {url}, because it lies on a private network. Start Label "
    "Studio with SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false (both are needed: with "
    "the second alone it connects, but its events never arrive), then connect again."
)
UNUSABLE = (
    "Label Studio makes no webhook for {url}, so its events never arrive: it wants a host with a "
    "dot in its name, an IP address or localhost. Give this service such a name (with docker "
    "compose a network alias), set RAREFIRST_OWN_URL to it, then connect again."
)
ANOTHER = (
    "another rarefirst ({mark}) answers at {url}, one with another data directory than this "
    "command's. Give this one's address with --url (or RAREFIRST_OWN_URL), or run the command with "
    "the RAREFIRST_DATA_DIR of the service that answers there."
)
UNREACHED = (
    "Label Studio does not reach us at {url} now. That address is kept: {own_url} is only a guess. "
    "Start the web part; where the address is wrong, give ours with --url (or RAREFIRST_OWN_URL)."
)


def remarks(
    project: ProjectInfo,
    connections: Sequence[Connection],
    ours: Sequence[Connection],
    counts: Connection | None,
    *,
    own_prefix: str,
) -> list[str]:
    """What is worth knowing of the project and its other connections.

    Args:
        project: the project.
        connections: all that it had before connecting.
        ours: those of them that lead to us, the one that counts first.
        counts: the one that counts now; None in a dry run that would make one.
        own_prefix: what the model versions of this service begin with.
    """
    notes = []
    if project.maximum_annotations > 1:
        notes.append(
            f"{project.maximum_annotations} annotations a task: Label Studio first serves "
            "tasks that somebody has begun, in random order, and only then the rarest"
        )
    if len(ours) > 1:
        notes.append(several(ours))
    strangers = [c for c in connections if c.id not in {known.id for known in ours}]
    if strangers and (counts is None or min(c.id for c in strangers) < counts.id):
        first = min(strangers, key=lambda connection: connection.id)
        notes.append(
            f"Label Studio asks only the first connection, {first.title!r}, for live "
            "predictions; the queue of rarefirst does not need them"
        )
    return notes + another_rarefirst(strangers, own_prefix)


def shown_by_others(project_id: int, version: str, *, take_over: bool) -> str:
    """The project shows somebody else's predictions."""
    return f"the project shows the predictions of {version!r}; " + (
        "the first published queue takes their place, disconnecting puts them back"
        if take_over
        else "they stay until you say that rarefirst may take their place: "
        f"`rarefirst connect --project {project_id} --take-over`"
    )


def others_version(project: ProjectInfo, connection: Connection | None, own_prefix: str) -> str:
    """Whose scores the project uses, where they are not ours; connecting itself sets our title.

    Another rarefirst is somebody else too.
    """
    version = project.model_version
    title = "" if connection is None else connection.title
    return "" if version == title or version.startswith(own_prefix) else version
