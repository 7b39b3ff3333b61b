"""Fit: the miner is fitted on the current labels, from cached features, as a new version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from backend.pinning import follow, pinned
from backend.reconcile import frozen_models
from backend.reconcile.actions.bootstrap import source
from backend.reconcile.context import ProjectContext, Tail
from backend.reconcile.held_out import learnable
from backend.reconcile.ledger import UNBIASED
from backend.reconcile.made_with import KEY, fit_settings, miner_config
from backend.reconcile.own_head import NOTES, own_head
from backend.reconcile.plan import Plan
from backend.reconcile.state import LabelSnapshot
from models.holdouts import Provenance
from models.registry import VersionCard
from models.skewness import class_priors, update_tail
from models.tasks.base import LabeledTexts
from models.types import ClassSpace


def run(context: ProjectContext, plan: Plan) -> None:
    """Fit a new version and make it the active one."""
    asked = context.store.hint_mark("force_fit")
    pin = pinned(context.store)
    if asked is not None and (pin is None or pin.at.timestamp() * 1e9 < asked):
        follow(context.store)  # Start training ends what was activated by hand before it
    settings, classes = context.settings, context.sync.classes
    context.store.note("fit", 0, 1, "re-calibration layer and autoencoder")
    tail = _decide_tail(context)
    tasks, labels = context.tasks(), context.labels()
    rows = context.embedded_rows()
    is_labeled = np.fromiter((int(tasks.ids[row]) in labels for row in rows), bool, len(rows))
    known = learnable(labels, settings)
    is_known = np.fromiter((int(tasks.ids[row]) in known for row in rows), bool, len(rows))
    labeled_rows = rows[is_known]
    pool_rows = rows[~is_labeled & (tasks.states[rows] == "unlabeled")]
    index = {name: number for number, name in enumerate(classes)}
    own, state = own_head(context), context.backbone_state
    config = miner_config(settings)
    fair = (context.ledger.origin(int(tasks.ids[row])) in UNBIASED for row in labeled_rows)
    miner = context.task.fit(
        LabeledTexts(
            context.examples(labeled_rows),
            tuple(labels[int(tasks.ids[row])] for row in labeled_rows),
        ),
        context.examples(pool_rows),
        classes=ClassSpace(
            names=classes,
            tail=tuple(sorted(index[name] for name in tail.names if name in index)),
            class_priors=class_priors(context.unbiased_counts(), classes),
        ),
        head=state.classes if state else (),
        own_head=own.head,
        stands_for=dict(context.interface.predicted_values) if context.interface else {},
        config=config,
        seed=settings.seed,
        provenance=Provenance(
            np.fromiter(fair, bool, len(labeled_rows)), state.labels if state else 0
        ),
        progress=lambda done, total, message="": context.store.note("fit", done, total, message),
    )
    # The snapshot is every usable label, also of images that cannot be read and those that are
    # held out: else they would make a new fit due for ever.
    snapshot = LabelSnapshot(
        ids=tuple(sorted(labels)),
        labels=tuple(labels[i] for i in sorted(labels)),
        classes=classes,
        task=context.sync.task,
    )

    def write(folder: Path) -> None:
        miner.save(folder)
        (folder / "labels.json").write_text(snapshot.model_dump_json())

    active = context.registry.active()
    version = context.registry.create(
        write,
        VersionCard(
            parent=active.name if active else None,
            kind=miner.kind,
            snapshot_digest=_digest(snapshot),
            config={
                **config.model_dump(),
                "frozen_model": _frozen_model(context),
                KEY: fit_settings(context),
                NOTES: list(own.notes),
                "calibration": miner.calibration.method,
            },
            metrics=miner.metrics,
            seed=settings.seed,
            classes=classes,
            tail=tail.names,
            backbone_fingerprint=state.fingerprint if state else "",
            explanation=miner.explanation,
            choice=miner.choice,
        ),
    )
    context.registry.activate(version.name)
    pin = pinned(context.store)  # a person may have activated one while this was fitted
    spare = context.store.publications().versions | ({pin.version} if pin else set())
    context.registry.prune(spare=spare)
    frozen_models.drop_unneeded(context)
    if asked is not None:
        context.store.take_hint("force_fit", asked)


def _decide_tail(context: ProjectContext) -> Tail:
    """Let classes enter or leave the sticky tail, and remember it."""
    settings = context.settings
    known = (*context.tail.names, *context.tail.away)
    decision = update_tail(
        known,
        counts_unbiased=context.unbiased_counts(),
        counts_all=context.counts(),
        class_names=context.sync.classes,
        named=settings.tail_classes,
        removed=settings.not_tail_classes,
        quotas=settings.tail_quota,
        min_labels=settings.tail_min_labels,
        threshold=settings.tail_threshold,
    )
    tail = Tail(
        names=decision.tail,
        away=tuple(name for name in known if name not in context.sync.classes),
        unlearnable=decision.unlearnable,
        notes=decision.notes,
    )
    if tail != context.tail:
        context.store.write("tail.json", tail)
    return tail


def _frozen_model(context: ProjectContext) -> dict[str, object]:
    """Which frozen model the features come from, for the card.

    Not always the one that the settings ask for, which may be one that cannot be loaded.
    """
    state = context.backbone_state
    asked = state.source if state and state.source else source(context)
    architecture, _, rest = asked.partition("|")
    return {
        "architecture": architecture,
        "weights": rest.rpartition("|")[0],
        "how": state.how if state else "",
        "labels": state.labels if state else 0,
    }


def _digest(snapshot: LabelSnapshot) -> str:
    text = json.dumps([snapshot.ids, snapshot.labels, snapshot.classes])
    return hashlib.sha256(text.encode()).hexdigest()
