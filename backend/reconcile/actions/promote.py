"""Promote: a fine-tune that is over is put away, and its network made the active frozen model.

That only where it was judged better, and where the model that it began from is still the active
one. Everything else follows by itself: the next steps embed with it, fit a version and publish
that, while the queue of the version before goes on being served. Killed anywhere in between, it is
done again to the same end.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from backend.finetunes import Finetune, FinetuneRecord, FinetuneRun, Finetunes, RunState
from backend.reconcile import finetune_children as children
from backend.reconcile import frozen_models
from backend.reconcile.actions.finetune import note_failure
from backend.reconcile.context import ProjectContext
from backend.reconcile.finetune_facts import MOST_TRIES
from backend.reconcile.plan import Plan
from backend.reconcile.state import BackboneState
from models.errors import ModelError
from models.tasks.base import task_of

logger = logging.getLogger(__name__)


def run(context: ProjectContext, plan: Plan) -> None:
    """Put the run away that is over, or that a person cancelled."""
    kept = Finetunes(context.store)
    wish, current = kept.wish, kept.current()
    cancelled = wish is not None and wish.what == "cancel"
    if current is not None:
        try:
            record = _over(context, current, plan.why, cancelled=cancelled)
        except OSError as error:
            # The rest of the loop goes on meanwhile.
            note_failure(current, f"it could not take its place: {error.strerror or error}")
            return
        logger.info(
            "project %s: fine-tune %s is %s: %s",
            context.project_id,
            current.number,
            record.state,
            "; ".join(record.reasons),
        )
        current.shed()
        # The record last: until it is there, all of this is done again.
        current.keep(record)
        kept.prune()
    if cancelled and wish is not None:
        kept.take_up(wish)


def _over(context: ProjectContext, run: Finetune, why: str, *, cancelled: bool) -> FinetuneRecord:
    """What became of it; where it is promoted, its network is the active one afterwards."""
    outcome, about, record = run.outcome, run.run, run.record
    state = context.backbone_state
    active = state.fingerprint if state is not None else ""
    if cancelled:
        children.stop(run)
        return _record(record, "cancelled", ("cancelled by a person",))
    switched_off = context.settings.finetune == "off"
    if (
        outcome is None
        or about is None
        or active not in {about.incumbent, outcome.candidate}
        or switched_off
        or (not _of_these_labels(context, about) and active != outcome.candidate)
    ):
        children.stop(run)
        told = run.failure
        if told is not None and told.final:
            return _record(record, "failed", (told.reason,))
        if record.tries >= MOST_TRIES:
            return _record(record, "failed", (f"{why}: {record.failure}",))
        return _record(record, "superseded", (why,))
    verdict = outcome.verdict
    children.stop(run)  # it said what it had to say
    record = record.model_copy(
        update={
            "compared": verdict.compared,
            "before": verdict.before.worth if verdict.before else None,
            "after": verdict.after.worth if verdict.after else None,
            "candidate": outcome.candidate or "",
        }
    )
    if not verdict.promoted:
        return _record(record, "rejected", verdict.reasons)
    try:
        _make_active(context, run, about, outcome.candidate or "")
    except ModelError as error:
        reason = f"its network cannot be used: {error}"
        return _record(record, "failed", (reason, *verdict.reasons))
    return _record(record, "promoted", verdict.reasons)


def _of_these_labels(context: ProjectContext, about: FinetuneRun) -> bool:
    """Whether the label config still asks for what was learned."""
    return (about.classes, about.task) == (context.sync.classes, context.sync.task)


def _record(record: FinetuneRecord, state: RunState, reasons: tuple[str, ...]) -> FinetuneRecord:
    update = {"state": state, "reasons": reasons, "failure": "", "ended_at": datetime.now(UTC)}
    return record.model_copy(update=update)


def _make_active(
    context: ProjectContext, run: Finetune, about: FinetuneRun, fingerprint: str
) -> None:
    store, before = context.store, context.backbone_state
    if before is None or before.fingerprint == fingerprint:
        return  # killed after the switch
    folder = context.backbone_folder(fingerprint)
    known = frozen_models.trained_on(store, before)
    learned = (about.labels.keys() - set(about.held_out)) | (
        set(about.seen) if known is None else known
    )
    candidate = run.path / "candidate"
    if not folder.exists():
        # Checked, and all that belongs to it written, before anything depends on it; moved, which
        # takes no room.
        task_of(about.task).load(candidate)
        frozen_models.remember_trained_on(candidate, learned)
        folder.parent.mkdir(parents=True, exist_ok=True)
        candidate.rename(folder)
    try:
        frozen_models.make_active(
            store,
            BackboneState(
                fingerprint=fingerprint,
                how="fine-tuned",
                labels=len(about.labels),
                source=before.source,
                classes=about.classes,
                task=about.task,
            ),
        )
    except OSError:
        # Where nothing needs it, the next fit would drop it; here it waits for the next try.
        folder.rename(candidate)
        raise
    frozen_models.drop_unneeded(context)
    context.forget_features()
