"""What `observe` finds of fine-tunes: what runs, what ended and how, what another one waits for.

Reads files only, and changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from backend.device_lock import device_is_free
from backend.finetune_config import strategy_of, unknown_strategy
from backend.finetunes import Finetune, FinetuneRecord, Finetunes, spent_today_s
from backend.projects import ProjectStore
from backend.reconcile import finetune_children as children
from backend.reconcile.context import Tail
from backend.reconcile.frozen_models import trained_on
from backend.reconcile.held_out import finetune_device, finetuning, held_out_of, learnable
from backend.reconcile.state import BackboneState, FinetuneFacts, SyncState
from backend.reports import FinetuneReport, FinetunesReport
from backend.settings import Settings, read_hours
from models.tasks import class_counts
from models.tasks.base import DETECTION

_SHOWN = 5
#: Failed tries after which a run is given up.
MOST_TRIES = 8


class Project(Protocol):
    """The part of a project that is looked at: the loop's own, or one that is only read."""

    @property
    def settings(self) -> Settings:
        """Those that count for it."""

    @property
    def store(self) -> ProjectStore:
        """Its folder."""

    @property
    def sync(self) -> SyncState:
        """How far the mirror has read."""

    @property
    def tail(self) -> Tail:
        """The sticky tail."""

    @property
    def backbone_state(self) -> BackboneState | None:
        """The active frozen model."""


_EPOCH = datetime.fromtimestamp(0, UTC)


def finetune_facts(project: Project, labels: Mapping[int, str]) -> FinetuneFacts:
    """The facts that decide about fine-tuning."""
    settings, kept = project.settings, Finetunes(project.store)
    run, wish = kept.current(), kept.wish
    enabled = finetuning(settings)
    asked = wish.what if wish is not None else ""
    if run is None and not enabled and not asked:
        return FinetuneFacts()
    counts = class_counts(project.sync.task, labels.values())
    classes = project.sync.classes
    facts = FinetuneFacts(
        enabled=enabled,
        wish=asked,
        unable=_unable(
            project, learnable(labels, settings), wish.strategy if wish is not None else None
        ),
        new_labels=_new_labels(kept.last_over(), labels),
        tail={name: counts[name] for name in project.tail.names if name in classes},
        unseen=_unseen(project, labels),
        spent=_spent(project),
        quiet=_quiet(settings),
        busy=_busy(settings),
    )
    return facts if run is None else _with(facts, run, project)


def _with(facts: FinetuneFacts, run: Finetune, project: Project) -> FinetuneFacts:
    """The facts with how the run is that is not over."""
    number, about = run.number, run.run
    facts = replace(facts, number=number)
    state, outcome = project.backbone_state, run.outcome
    active = state.fingerprint if state is not None else ""
    switched = outcome is not None and outcome.verdict.promoted and active == outcome.candidate
    if about is None:
        return replace(facts, over=f"what fine-tune {number} is about cannot be read")
    if project.settings.finetune == "off":
        return replace(facts, over=f"fine-tuning was switched off while number {number} ran")
    sync = project.sync
    if (about.classes, about.task) != (sync.classes, sync.task) and not switched:
        return replace(facts, over=f"the classes changed while fine-tune {number} ran")
    if outcome is not None:
        promotes = outcome.verdict.promoted
        waits = _blocked(run.record)
        # Killed after the switch: its own network is the active one already.
        if waits:
            return replace(facts, blocked=waits)
        if active == about.incumbent or switched:
            word = "is better" if promotes else "is no better"
            over = f"fine-tune {number} has ended and {word}"
            return replace(facts, over=over, promotes=promotes)
    if active != about.incumbent:
        over = f"fine-tune {number} began from a frozen model that is not the active one any more"
        return replace(facts, over=over)
    if children.is_running(run):
        return replace(facts, running=True)
    where = finetune_device(project.settings)
    if about.config.device != where:
        over = f"fine-tune {number} was begun on {about.config.device}, now it is {where}"
        return replace(facts, over=over)
    if run.record.tries >= MOST_TRIES:
        return replace(facts, over=f"fine-tune {number} failed {MOST_TRIES} times")
    told, failure = run.failure, children.end_of(run)
    if told is not None and told.final:
        return replace(facts, over=f"fine-tune {number} has failed: {told.reason}")
    if failure:
        return replace(facts, died=f"fine-tune {number} ended before its time: {failure}")
    return replace(facts, blocked=_blocked(run.record))


def _unseen(project: Project, labels: Mapping[int, str]) -> dict[str, int]:
    """Labels of each tail class that the frozen model was not trained on: what can judge it."""
    state = project.backbone_state
    known = trained_on(project.store, state) if state is not None else frozenset[int]()
    # Of a model that nobody wrote this down for, every label may have been.
    fair = labels.keys() - known if known is not None else set[int]()
    counts = class_counts(project.sync.task, (labels[task] for task in fair))
    return {name: counts[name] for name in project.tail.names if name in project.sync.classes}


def _new_labels(last: Finetune | None, labels: Mapping[int, str]) -> int:
    run = last.run if last is not None else None
    before = run.labels if run is not None else {}
    return sum(before.get(task) != label for task, label in labels.items())


def _unable(project: Project, labels: Mapping[int, str], strategy: str | None) -> str:
    task = project.sync.task
    unknown = unknown_strategy(strategy_of(project.settings, task, strategy), task)
    if unknown:
        return unknown
    kinds = len(class_counts(task, labels.values()))
    if task == DETECTION:
        return "" if kinds else "a box is needed to learn from"
    return "" if kinds > 1 else "labels of two classes are needed to learn from"


def _blocked(record: FinetuneRecord) -> str:
    left = record.retry_s - time.time()
    if not record.failure or left <= 0:
        return ""
    return (
        f"fine-tuning failed and is tried again in {left:.0f} s: {record.failure}; "
        "`rarefirst finetune --cancel` ends it"
    )


def _spent(project: Project) -> str:
    limit = project.settings.finetune_budget_h
    if not limit:
        return ""
    spent = spent_today_s(project.store.root.parent) / 3600
    return f"{spent:.1f} of {limit:g} hours of today are spent" if spent >= limit else ""


def _quiet(settings: Settings) -> str:
    hours = settings.finetune_quiet_hours
    now = datetime.now().astimezone()
    return f"none is begun in the hours {hours}" if now.hour in read_hours(hours) else ""


def _busy(settings: Settings) -> str:
    where = finetune_device(settings)
    free = device_is_free(settings.data_dir, where)
    return "" if free else f"another fine-tune runs on {where}"


def finetune_report(
    project: Project, labels: Mapping[int, str], facts: FinetuneFacts
) -> FinetunesReport:
    """What people are told of fine-tunes."""
    settings = project.settings
    away = held_out_of(labels) if facts.enabled else ()
    counts = class_counts(project.sync.task, (labels[task] for task in away))
    return FinetunesReport(
        enabled=facts.enabled,
        why=_why(settings, enabled=facts.enabled),
        held_out=len(away),
        held_out_by_class={name: counts[name] for name in project.sync.classes if counts[name]},
        runs=tuple(run_report(run) for run in reversed(Finetunes(project.store).all()[-_SHOWN:])),
    )


def run_report(run: Finetune) -> FinetuneReport:
    """One run, as people are told of it."""
    about, record = run.run, run.record
    if about is None:
        return FinetuneReport(number=run.number, state=record.state, at=record.ended_at or _EPOCH)
    return FinetuneReport(
        number=run.number,
        state=record.state,
        at=about.at,
        why=about.why,
        strategy=about.config.strategy,
        labels=len(about.labels) - len(about.held_out),
        held_out=len(about.held_out),
        before=record.before,
        after=record.after,
        reasons=record.reasons or ((record.failure,) if record.failure else ()),
    )


def _why(settings: Settings, *, enabled: bool) -> str:
    if settings.finetune != "auto":
        return f"RAREFIRST_FINETUNE is {settings.finetune}"
    where = finetune_device(settings)
    return f"there is a CUDA device ({where})" if enabled else "there is no CUDA device"
