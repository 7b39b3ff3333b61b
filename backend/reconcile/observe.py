"""Observe: what is, from the mirror, the registry and what Label Studio last said. Cheap."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

import numpy as np

from backend.labelstudio.drift import project_drift
from backend.pinning import pinned, released
from backend.project_settings import kept
from backend.projects import Publications
from backend.reconcile.actions import bootstrap, cleanup, embed
from backend.reconcile.context import ProjectContext
from backend.reconcile.control import what_is_left
from backend.reconcile.finetune_facts import finetune_facts, finetune_report
from backend.reconcile.made_with import changed, fit_settings, made_with, publication_settings
from backend.reconcile.own_head import NOTES
from backend.reconcile.ownership import ownership
from backend.reconcile.plan import Plan
from backend.reconcile.reading_notes import READING_NOTES, ReadingNotes
from backend.reconcile.state import FitFacts, PinFacts, QueueFacts, State, snapshot_of
from backend.reports import ProjectReport
from models.tasks.base import DETECTION


def observe(context: ProjectContext, *, synced: bool) -> State:
    """The facts that decide what to do next.

    Args:
        context: the project.
        synced: the mirror was read in this round.
    """
    settings, store = context.settings, context.store
    if store.paused:
        return State(paused=True)
    if not synced or context.must_look_again():
        return State(synced=False)
    sync = context.sync
    labels = context.labels()
    tasks = context.tasks()
    embedded = context.embedded_rows()
    unlabeled = np.asarray(tasks.states == "unlabeled", dtype=bool)
    backbone = context.backbone_state
    publications = store.publications()
    owned = ownership(context, publications)
    fit = _fit_facts(context, labels)
    return State(
        synced=True,
        completed=context.connection is not None,
        config_error=sync.config_error,
        usable_labels=len(labels),
        too_alike=bootstrap.too_alike(context),
        labels_changed_ago_s=_seconds_since(sync.labels_changed_s),
        backbone=backbone,
        backbone_wanted=backbone is not None and backbone.source != bootstrap.source(context),
        trainable=bootstrap.trainable(settings, sync.task),
        bootstrap_blocked=bootstrap.blocked(context),
        missing_labeled=len(embed.missing_rows(context, labeled=True)) if backbone else 0,
        missing_pool=len(embed.missing_rows(context, labeled=False)) if backbone else 0,
        retries=len(embed.retry_rows(context)) if backbone else 0,
        embedded_pool=int(unlabeled[embedded].sum()),
        embedded=len(embedded),
        pool=int(unlabeled.sum()),
        fit=fit,
        queue=_queue_facts(context, publications),
        candidate=publications.candidate is not None,
        may_switch=owned.ours,
        owner=owned.owner,
        lost=owned.lost,
        older=owned.older,
        leftovers=_deletable(context, publications),
        force_fit=store.hinted_at("force_fit") is not None,
        pin=_pin_facts(context, fit),
        finetune=finetune_facts(context, labels),
    )


def _seconds_since(at_s: float) -> float:
    """How long ago something was; very long where our clock has jumped back since."""
    ago = time.time() - at_s
    return ago if ago >= 0 else float("inf")


def _deletable(context: ProjectContext, publications: Publications) -> int:
    used = context.project.model_version if context.project else ""
    return len(cleanup.deletable(publications, used))


def _fit_facts(context: ProjectContext, labels: dict[int, str]) -> FitFacts | None:
    version = context.registry.active()
    if version is None:
        return None
    snapshot = snapshot_of(version)
    known = snapshot.as_dict()
    differing = sum(known.get(i) != labels.get(i) for i in known.keys() | labels.keys())
    backbone = context.backbone_state
    return FitFacts(
        version=version.name,
        labels_differing=differing,
        same_backbone=backbone is not None
        and version.card.backbone_fingerprint == backbone.fingerprint,
        same_classes=snapshot.classes == context.sync.classes,
        same_task=snapshot.task == context.sync.task,
        settings_changed=changed(made_with(version.card), fit_settings(context)),
    )


def _pin_facts(context: ProjectContext, fit: FitFacts | None) -> PinFacts | None:
    pin = pinned(context.store)
    if pin is None:
        return None
    in_place = (
        fit is not None
        and fit.version == pin.version
        and fit.same_backbone
        and fit.same_classes
        and fit.same_task
    )
    return PinFacts(pin.version, in_place)


def _queue_facts(context: ProjectContext, publications: Publications) -> QueueFacts | None:
    served = publications.published
    if served is None:
        return None
    return QueueFacts(
        version=served.version,
        size=len(served.task_ids),
        left=queue_left(context, publications),
        embedded=_scored(context, served.name),
        settings_changed=changed(served.settings, publication_settings(context)),
    )


def _scored(context: ProjectContext, name: str) -> int:
    """Embedded tasks that a publication scored."""
    rows = context.embedded_rows()
    return int(np.isin(context.tasks().ids[rows], context.scored_ids(name)).sum())


def queue_left(context: ProjectContext, publications: Publications) -> int:
    """Published tasks that are still unlabeled."""
    served = publications.published
    if served is None:
        return 0
    tasks = context.tasks()
    unlabeled = tasks.ids[tasks.rows(state="unlabeled")]
    return int(np.isin(np.asarray(served.task_ids, dtype=np.int64), unlabeled).sum())


def report(context: ProjectContext, state: State, plan: Plan, trouble: str = "") -> ProjectReport:
    """What people are told by `rarefirst status`."""
    store = context.store
    tasks, classes = context.tasks(), set(context.sync.classes)
    labels = context.labels()
    tail = context.tail
    version = context.registry.active()
    backbone = context.backbone_state
    all_labels = tasks.labels[tasks.rows(state="labeled")]
    drawn = context.sync.task == DETECTION
    unchosen, tail_names = context.unchosen(), set(tail.names)
    fit = state.fit
    return ProjectReport(
        project_id=context.project_id,
        title=context.project.title if context.project else "",
        at=datetime.now(UTC),
        label_studio=trouble or "reachable",
        tasks=len(tasks),
        labeled=len(all_labels),
        skipped=len(tasks.rows(state="skipped")),
        conflicts=len(tasks.rows(state="conflict")),
        embedded=len(context.embedded_rows()),
        failed=dict(Counter(f.reason for f in embed.unreadable(context).values()).most_common()),
        labels_by_class=dict(context.counts()),
        images_by_class=dict(context.images_by_class()) if drawn else {},
        labels_by_origin=dict(Counter(context.ledger.origin(i) for i in labels)),
        unchosen=len(unchosen),
        unchosen_rare=sum(not tail_names.isdisjoint(names) for names in unchosen),
        unchosen_by_class=dict(Counter(name for names in unchosen for name in set(names))),
        # Of boxes the notes of reading tell it, task by task.
        unknown_labels={}
        if drawn
        else dict(Counter(str(name) for name in all_labels if name not in classes)),
        noted=(store.read(READING_NOTES, ReadingNotes) or ReadingNotes()).tasks,
        tail=tail.names,
        unlearnable=tail.unlearnable,
        rare_left=what_is_left(context),
        labels_since_fit=fit.labels_differing if fit else len(labels),
        backbone=f"{backbone.how} {backbone.source.partition('|')[0]}" if backbone else "",
        version=version.name if version else "",
        queue_left=queue_left(context, store.publications()),
        next=f"{plan.step}: {plan.why}" if plan.step else plan.why,
        why_not=plan.waiting,
        problems=(*context.standing_problems(), *_explanations(context, version)),
        drift=(
            *(project_drift(context.project) if context.project else ()),
            *(_older(context) if state.older else ()),
            *context.drift,
        ),
        finetune=finetune_report(context, labels, state.finetune),
    )


def _older(context: ProjectContext) -> list[str]:
    """The project uses an earlier queue of ours."""
    used = context.project.model_version if context.project else ""
    return [
        f"the project uses {used}, an earlier queue of ours: chosen by a person, or put back by "
        "saving a settings page that was opened before the last publication. The next publication "
        "takes its place; `rarefirst versions activate` goes back to a version for good"
    ]


def _explanations(context: ProjectContext, version: object) -> tuple[str, ...]:
    from models.registry import Version

    said = [*_nothing_of_ours(context), *context.tail.notes, *context.registry.problems]
    given_up = released(context.store)
    if given_up:
        said.append(given_up)
    if isinstance(version, Version):
        said += [version.card.explanation] if version.card.explanation else []
        notes = version.card.config.get(NOTES)
        said += [str(note) for note in notes] if isinstance(notes, list) else []
    said += context.interface.problems if context.interface is not None else ()
    return (*said, *_strange_classes(context))


def _strange_classes(context: ProjectContext) -> list[str]:
    """Classes that the project's own settings name and its label config does not hold."""
    own = kept(context.store)
    classes = context.sync.classes
    if own is None or not classes:
        return []
    return [
        f"extra params: {name} names {', '.join(strange)}, which the label config does not hold; "
        f"expected some of {', '.join(classes)}"
        for name in ("tail_classes", "not_tail_classes")
        if name in own.overrides
        and (strange := sorted(set(getattr(context.settings, name)) - set(classes)))
    ]


def _nothing_of_ours(context: ProjectContext) -> list[str]:
    """Annotated tasks that tell us nothing: submitted empty, or labeled with another control."""
    count, interface = len(context.tasks().rows(state="other")), context.interface
    if not count or interface is None:
        return []
    if interface.task == DETECTION:
        return [
            f"{count} annotated tasks hold nothing but what was made with controls that the label "
            f"config does not hold; boxes of {interface.control_name} are read: with their old "
            "name those labels count again"
        ]
    return [
        f"{count} annotated tasks hold no choice made with {interface.control_name!r}: submitted "
        "without one, or labeled while the control had another name or another one came first; "
        "with the old name, in the first place, those labels count again"
    ]
