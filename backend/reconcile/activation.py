"""An older version becomes the active one again, with the frozen model that it was fitted on."""

from __future__ import annotations

from backend.errors import VersionRefused, shortened
from backend.projects import ProjectStore
from backend.reconcile import frozen_models
from backend.reconcile.state import BackboneState, SyncState
from models.errors import CorruptVersion, ModelError
from models.registry import Version, VersionRegistry


def usable(
    store: ProjectStore, registry: VersionRegistry, name: str, *, sync: SyncState
) -> tuple[Version, BackboneState]:
    """A version and its frozen model, both checked against what was stored.

    The version must be for the same kind of labels as the label config, and tell the same classes
    apart, in the same order.

    Raises:
        VersionRefused: saying what was found, what was expected and what to do.
    """
    if name not in registry.names:
        known = ", ".join(registry.names) or "none yet"
        raise VersionRefused(f"found no version {shortened(repr(name))}; expected one of {known}")
    try:
        version = registry.load(name)
    except CorruptVersion as error:
        raise VersionRefused(f"version {name} is damaged: {error}") from error
    fingerprint, classes = version.card.backbone_fingerprint, sync.classes
    state = frozen_models.known_state(store, fingerprint)
    if state is not None and state.task != sync.task:
        raise VersionRefused(
            f"version {name} is for {state.task}, the label config asks for {sync.task}; an order "
            "made for other labels is of no use: change the label config back, or let the loop fit "
            "a new version"
        )
    if version.card.classes != classes:
        raise VersionRefused(
            f"version {name} tells {', '.join(version.card.classes)} apart, the label config holds "
            f"{', '.join(classes) or 'nothing that was read yet'}; an order over other classes is "
            "of no use: change the label config back, or let the loop fit a new version"
        )
    if state is None:
        raise VersionRefused(
            f"the frozen model {fingerprint[:16]} of version {name} is not stored any more; "
            "activate a version that `rarefirst versions list` shows with a frozen model"
        )
    try:
        frozen_models.load(store, fingerprint)
    except (ModelError, OSError) as error:
        raise VersionRefused(f"the frozen model of version {name} is damaged: {error}") from error
    return version, state


def put_in_place(
    store: ProjectStore, registry: VersionRegistry, version: Version, state: BackboneState
) -> None:
    """Make it the active version. A kill in between is finished by the loop: the pin stays."""
    frozen_models.make_active(store, state)
    registry.activate(version.name)
