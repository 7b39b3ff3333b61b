"""The labels of a project with their features, as they are stored: what a fit would learn from.

Read beside a running worker and without Label Studio; no image is touched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from backend.errors import BackendError
from backend.mirror_reader import MirrorReader
from backend.projects import ProjectStore
from backend.reconcile.context import Tail, shown
from backend.reconcile.held_out import learnable
from backend.reconcile.ledger import UNBIASED, Ledger
from backend.reconcile.state import BackboneState, SyncState
from backend.settings import Settings
from models.errors import CorruptVersion
from models.holdouts import Provenance
from models.label_head import LabelHead
from models.recipes.fit_miner import Miner
from models.registry import VersionRegistry
from models.skewness import class_priors
from models.types import ClassSpace, LabeledExamples


@dataclass(frozen=True)
class StoredLabels:
    """Labels that the label config holds, of tasks that are embedded.

    Attributes:
        labeled: features and class indices, ordered by task id.
        classes: names, tail and priors.
        provenance: how they came to be.
    """

    labeled: LabeledExamples
    classes: ClassSpace
    provenance: Provenance


def stored_labels(store: ProjectStore, settings: Settings) -> StoredLabels:
    """Read them; those that are held out for fine-tuning are left out.

    Args:
        store: the project's folder.
        settings: those that count for the project.

    Raises:
        BackendError: where nothing is mirrored or embedded yet, or the mirror cannot be read.
    """
    sync = store.read("sync.json", SyncState) or SyncState()
    names, state = sync.classes, store.read("backbone.json", BackboneState)
    if state is not None and state.task != sync.task:
        state = None  # the label config asks for other labels, and has no model yet
    reader = MirrorReader(store.path("mirror"))
    tasks = reader.tasks()
    table = None if state is None else reader.features(state.fingerprint)
    if not names or state is None or tasks is None or table is None:
        raise BackendError(
            "no labels with features are stored yet, so there is nothing to learn from; "
            "`rarefirst status` says what the loop waits for"
        )
    index = {name: number for number, name in enumerate(names)}
    named = tasks.rows(state="labeled")
    named = named[[tasks.labels[row] in index for row in named]]
    chosen = Ledger(store.path("ledger.jsonl"))
    fair = np.fromiter((chosen.origin(int(i)) in UNBIASED for i in tasks.ids[named]), bool)
    # Also of images that cannot be read: they say how rare a class is.
    counts = dict.fromkeys(names, 0)
    for row in named[fair]:
        counts[tasks.labels[row]] += 1
    known = learnable({int(tasks.ids[row]): str(tasks.labels[row]) for row in named}, settings)
    usable = np.isin(named, table.embedded(tasks)) & np.isin(tasks.ids[named], list(known))
    rows = named[usable]
    tail = store.read("tail.json", Tail) or Tail()
    return StoredLabels(
        labeled=LabeledExamples(
            shown(table.examples(tasks.ids[rows]), state, names),
            np.asarray([index[tasks.labels[row]] for row in rows], dtype=np.int64),
            _own_head(store, state, names),
        ),
        classes=ClassSpace(
            names,
            tuple(sorted(index[name] for name in tail.names if name in index)),
            class_priors(counts, names),
        ),
        provenance=Provenance(fair[usable], state.labels),
    )


def _own_head(
    store: ProjectStore, state: BackboneState, names: tuple[str, ...]
) -> LabelHead | None:
    """The frozen model's own head over the classes, as the active version keeps it."""
    version = VersionRegistry(store.path("versions")).active()
    if version is None or version.card.backbone_fingerprint != state.fingerprint:
        return None
    try:
        miner = Miner.load(version.path)
    except CorruptVersion:
        return None  # the next fit makes it anew
    return miner.own_head if miner.classes.names == names else None
