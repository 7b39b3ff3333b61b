"""`rarefirst finetune --project`: what a fine-tune would do, a person's wish for one, its verdict.

The loop owns the work: a wish is a small file in the project's folder, which it carries out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from backend.errors import BackendError, FinetuneRefused
from backend.finetune_config import strategy_of, unknown_strategy
from backend.finetunes import Finetune, Finetunes, Wish
from backend.heartbeat import STALE_S, heartbeat_age_s
from backend.jobs import Jobs
from backend.project_settings import effective
from backend.projects import ProjectStore
from backend.reconcile.state import SyncState
from backend.reports import FinetuneReport, ProjectReport
from backend.settings import Settings
from backend.status import RunningFinetune, running_finetune
from models.tasks import class_counts
from models.tasks.base import CLASSIFICATION

if TYPE_CHECKING:
    from models.recipes.finetune_outcome import Outcome

_POLL_S = 0.3


class FinetunePreview(BaseModel):
    """What a fine-tune begun now would be, and whether one is due.

    Attributes:
        frozen_model: how the model that it would begin from came to be.
        learned: labels (of boxes: boxes) that it would learn from, by class; held_out: those it is
            judged on.
        fair: of those the ones that the frozen model was not trained on, by class: what counts.
        due: the loop begins one by itself with its next round.
        why: why it is due, or would be begun; why_not: what it waits for.
        running: the one that is not over.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    task: str = CLASSIFICATION
    enabled: bool
    strategy: str
    layers: str
    epochs: int
    learning_rate: float
    device: str
    frozen_model: str = ""
    tail: tuple[str, ...] = ()
    learned: dict[str, int] = Field(default_factory=dict)
    held_out: dict[str, int] = Field(default_factory=dict)
    fair: dict[str, int] = Field(default_factory=dict)
    due: bool = False
    why: str = ""
    why_not: tuple[str, ...] = ()
    running: RunningFinetune | None = None


class FinetuneAsked(BaseModel):
    """What asking came to, and, where it was waited for, what became of it.

    Attributes:
        cancels: the run was to end.
        worker_alive: somebody is there to carry it out.
        run: None while it has not begun.
        outcome: the whole of what the training and the judgement came to.
    """

    model_config = ConfigDict(frozen=True)

    project: int
    cancels: bool = False
    worker_alive: bool = True
    paused: bool = False
    run: FinetuneReport | None = None
    outcome: dict[str, JsonValue] | None = None


def preview(
    settings: Settings, project_id: int, *, strategy: str | None = None, epochs: int | None = None
) -> FinetunePreview:
    """Say what would be trained on and held out, and whether it is due; nothing is changed.

    Raises:
        NotConnected: where the project is not connected.
        BackendError: where nothing is stored of it yet.
    """
    from backend.pinning import pinned
    from backend.reconcile.actions.finetune import config_of
    from backend.reconcile.finetune_facts import finetune_facts
    from backend.reconcile.finetune_policy import finetune
    from backend.reconcile.frozen_models import trained_on
    from backend.reconcile.held_out import finetuning, held_out_of
    from backend.reconcile.state import PinFacts, State
    from backend.stored_project import StoredProject

    project = StoredProject(settings, project_id)
    task = project.sync.task
    _known(strategy_of(project.settings, task, strategy), task)
    labels, state = project.labels(), project.backbone_state
    wish = Wish(what="start", strategy=strategy, epochs=epochs)
    config = config_of(project.settings, wish, task)
    away = held_out_of(labels)
    known = frozenset[int]() if state is None else trained_on(project.store, state)
    pin = pinned(project.store)
    waiting: list[str] = []
    facts = finetune_facts(project, labels)
    due = finetune(
        State(backbone=state, finetune=facts),
        PinFacts(pin.version, in_place=True) if pin is not None else None,
        project.settings,
        waiting,
    )
    if not facts.enabled:
        waiting.append(off_words(project.settings))
    return FinetunePreview(
        project=project_id,
        task=task,
        enabled=finetuning(project.settings),
        strategy=config.strategy,
        layers=config.layers,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        device=config.device,
        frozen_model=state.how if state is not None else "",
        tail=tuple(name for name in project.tail.names if name in project.sync.classes),
        learned=_counts(project.sync, (labels[i] for i in labels.keys() - set(away))),
        held_out=_counts(project.sync, (labels[i] for i in away)),
        fair=_counts(
            project.sync,
            (labels[i] for i in away if known is not None and i not in known),
        ),
        due=bool(due),
        why=due,
        why_not=tuple(waiting),
        running=running_finetune(project.store),
    )


def off_words(settings: Settings) -> str:
    """Why the loop begins no fine-tune by itself."""
    if settings.finetune == "auto":
        return (
            "none is begun by itself: RAREFIRST_FINETUNE is auto, and there is no CUDA device; "
            "RAREFIRST_FINETUNE=on trains on the processor"
        )
    return "none is begun: RAREFIRST_FINETUNE is off"


def ask_for_finetune(
    settings: Settings, project_id: int, *, strategy: str | None = None, epochs: int | None = None
) -> FinetuneAsked:
    """Have the loop begin a fine-tune; where one runs already, that is it.

    Raises:
        NotConnected: where the project is not connected.
        FinetuneRefused: where fine-tuning is off, or there is no such strategy.
    """
    jobs = Jobs(settings)
    store = jobs.stores.connected(project_id)
    own = effective(settings, store)
    if own.finetune == "off":
        raise FinetuneRefused(
            "RAREFIRST_FINETUNE is off for this project; expected auto or on for a fine-tune"
        )
    task = (store.read("sync.json", SyncState) or SyncState()).task
    _known(strategy_of(own, task, strategy), task)
    kept = Finetunes(store)
    current = kept.current()
    if current is not None and (strategy, epochs) != (None, None):
        raise FinetuneRefused(
            f"fine-tune {current.number} is not over yet; `rarefirst finetune --project "
            f"{project_id} --cancel` ends it, without other options you follow it"
        )
    if current is None:
        kept.ask(Wish(what="start", strategy=strategy, epochs=epochs))
    jobs.look(store)
    return _asked(settings, store, project_id)


def _known(strategy: str, task: str) -> None:
    """Raises FinetuneRefused where there is no such strategy for a kind of labels."""
    unknown = unknown_strategy(strategy, task)
    if unknown:
        raise FinetuneRefused(unknown)


def cancel_finetune(settings: Settings, project_id: int) -> FinetuneAsked:
    """Have the loop end the fine-tune that runs, or take back a wish for one.

    Raises:
        NotConnected: where the project is not connected.
        FinetuneRefused: where none runs and none was asked for.
    """
    jobs = Jobs(settings)
    store = jobs.stores.connected(project_id)
    kept = Finetunes(store)
    wish = kept.wish
    if kept.current() is None:
        if wish is not None:
            kept.take_up(wish)
        else:
            raise FinetuneRefused("no fine-tune runs, and none was asked for: nothing to cancel")
    else:
        kept.ask(Wish(what="cancel"))
    jobs.look(store)
    return _asked(settings, store, project_id).model_copy(update={"cancels": True})


def follow(
    settings: Settings,
    project_id: int,
    *,
    told: Callable[[int, int, str], None],
    timeout_s: float = float("inf"),
) -> FinetuneAsked:
    """Wait until the run that was asked for is over, telling how far it is.

    Args:
        settings: the service's.
        project_id: which project.
        told: called with steps done, steps in all (0: not known) and a few words.
        timeout_s: how long to wait.

    Raises:
        BackendError: where no worker is there to carry it out, or the time is over.
    """
    store = Jobs(settings).stores.connected(project_id)
    kept = Finetunes(store)
    deadline = time.monotonic() + timeout_s
    number = 0
    while time.monotonic() < deadline:
        age = heartbeat_age_s(settings.data_dir)
        if age is None or age >= STALE_S:
            raise BackendError(
                "no worker runs, so nothing happens; the wish is kept, start `rarefirst serve`"
            )
        if store.paused:
            raise BackendError(
                f"project {project_id} is paused, so nothing happens; the wish is kept, "
                "`rarefirst resume` goes on"
            )
        run = kept.current()
        if run is not None:
            number = run.number
            if run.outcome is not None and _waits_for_follow(store):
                break  # better, but a person activated a version: that may be for weeks
            progress, record = run.progress, run.record
            rests = record.failure if record.retry_s > time.time() else ""
            words = rests or progress.message or "starting"
            told(progress.done, progress.total, f"fine-tune {number}: {words}")
        elif kept.wish is not None:
            told(0, 0, f"waits: {_hindrance(store)}")
        else:
            break
        time.sleep(_POLL_S)
    else:
        raise BackendError(f"it was not over within {timeout_s:.0f} s; it goes on by itself")
    return _asked(settings, store, project_id, over=True)


def outcome_of(run: Finetune) -> Outcome | None:
    """Everything that a training and its judgement came to; None where they did not end."""
    from models.recipes.finetune_outcome import Outcome

    try:
        return Outcome.model_validate_json((run.path / "outcome.json").read_bytes())
    except (OSError, ValidationError):
        return None


def outcome_of_asked(asked: FinetuneAsked) -> Outcome | None:
    """The outcome in an answer, as the recipe made it."""
    from models.recipes.finetune_outcome import Outcome

    return Outcome.model_validate(asked.outcome) if asked.outcome is not None else None


def _asked(
    settings: Settings, store: ProjectStore, project_id: int, *, over: bool = False
) -> FinetuneAsked:
    from backend.reconcile.finetune_facts import run_report

    age = heartbeat_age_s(settings.data_dir)
    runs = Finetunes(store).all()
    run = runs[-1] if runs and (over or runs[-1].record.state == "running") else None
    outcome = outcome_of(run) if run is not None else None
    return FinetuneAsked(
        project=project_id,
        worker_alive=age is not None and age < STALE_S,
        paused=store.paused,
        run=run_report(run) if run is not None else None,
        outcome=outcome.model_dump(mode="json") if outcome is not None else None,
    )


def _waits_for_follow(store: ProjectStore) -> bool:
    """Whether a better network waits for `versions follow`."""
    report = store.read("report.json", ProjectReport)
    return report is not None and any("is better and waits" in why for why in report.why_not)


def _hindrance(store: ProjectStore) -> str:
    """Why the wish is not carried out yet, in the loop's own words."""
    report = store.read("report.json", ProjectReport)
    reasons = report.why_not if report is not None else ()
    about = (reason for reason in reasons if "fine-tun" in reason)
    return next(about, report.next if report is not None else "the loop has not looked yet")


def _counts(sync: SyncState, labels: Iterable[str]) -> dict[str, int]:
    counts = class_counts(sync.task, labels)
    return {name: counts[name] for name in sync.classes if counts[name]}
