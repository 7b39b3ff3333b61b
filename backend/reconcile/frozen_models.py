"""The frozen models of a project: one is active, those that a kept version needs stay beside it.

Each lies in its own folder with what is known of it (``state.json``, and ``trained_on.npy``: the
tasks that it was trained on), so that an older one can be made the active one again; its features
stay in the mirror as long.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from backend.files import write_atomically
from backend.projects import ProjectStore
from backend.reconcile.state import BackboneState
from models.tasks.base import CLASSIFICATION, FrozenModel, Task, task_of

if TYPE_CHECKING:
    from backend.reconcile.context import ProjectContext

_STATE, _TRAINED_ON = "state.json", "trained_on.npy"
#: How a model came to be that learned from the project's labels.
TRAINED_HERE = frozenset({"bootstrapped", "fine-tuned"})


def folder_of(store: ProjectStore, fingerprint: str) -> Path:
    """Where a frozen model lies."""
    return store.path("backbones", fingerprint[:16])


def known_state(store: ProjectStore, fingerprint: str) -> BackboneState | None:
    """What is known of a stored frozen model; None where it is not stored or nothing is known."""
    active = store.read("backbone.json", BackboneState)
    folder = folder_of(store, fingerprint)
    if active is not None and active.fingerprint == fingerprint and folder.is_dir():
        return active
    try:
        found = BackboneState.model_validate_json((folder / _STATE).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.fingerprint == fingerprint else None


def load(store: ProjectStore, fingerprint: str, *, device: str = "cpu") -> FrozenModel:
    """A stored frozen model of whatever kind it is.

    Raises: CorruptVersion: if files are missing or damaged.
    """
    return task_of_model(store, fingerprint).load(folder_of(store, fingerprint), device=device)


def task_of_model(store: ProjectStore, fingerprint: str) -> Task:
    """The kind of labels that a stored frozen model is for."""
    state = known_state(store, fingerprint)
    return task_of(state.task if state is not None else CLASSIFICATION)


def remember_trained_on(folder: Path, ids: Collection[int]) -> None:
    """Keep the tasks whose labels a model was trained on, beside it."""
    temporary = folder / f".{_TRAINED_ON}.partial"
    with temporary.open("wb") as file:
        np.save(file, np.asarray(sorted(ids), dtype=np.int64))
    temporary.replace(folder / _TRAINED_ON)


def trained_on(store: ProjectStore, state: BackboneState) -> frozenset[int] | None:
    """The tasks whose labels a model was trained on; None where nobody knows any more."""
    try:
        ids = np.load(folder_of(store, state.fingerprint) / _TRAINED_ON, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None if state.how in TRAINED_HERE else frozenset()
    return frozenset(ids.tolist())


def make_active(store: ProjectStore, state: BackboneState) -> None:
    """Let a stored frozen model be the active one, and keep what is known of the one before."""
    before = store.read("backbone.json", BackboneState)
    for known in (before, state):
        if known is not None and folder_of(store, known.fingerprint).is_dir():
            path = folder_of(store, known.fingerprint) / _STATE
            write_atomically(path, known.model_dump_json(indent=1))
    if before != state:
        store.write("backbone.json", state)


def drop_unneeded(context: ProjectContext) -> None:
    """Delete frozen models, and their features, that neither is active nor a version needs."""
    active = context.backbone_state
    needed = {version.card.backbone_fingerprint for version in context.registry.list()}
    needed |= {active.fingerprint} if active is not None else set()
    context.mirror.drop_features_except(needed)
    folders = {fingerprint[:16] for fingerprint in needed}
    for path in context.store.path("backbones").iterdir():
        if path.name not in folders:
            shutil.rmtree(path, ignore_errors=True)
