"""The whole policy on one page: from what is, to what to do next, and why not yet.

``plan`` is pure. It names the next action only; the loop acts, looks again and asks again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from backend.reconcile.finetune_policy import finetune, promotion
from backend.reconcile.state import PinFacts, State
from backend.settings import Settings

Step = Literal[
    "sync",
    "connect",
    "activate",
    "promote",
    "bootstrap",
    "embed",
    "fit",
    "publish",
    "finetune",
    "cleanup",
]


@dataclass(frozen=True)
class Plan:
    """What to do next.

    Attributes:
        step: the next action, None where nothing is left to do.
        why: one sentence for `status`.
        which: for ``embed``, whether labeled tasks or the pool.
        idle: it gives way as soon as something happens.
        waiting: what is not done yet, and why.
    """

    step: Step | None
    why: str
    which: Literal["labeled", "pool"] = "pool"
    idle: bool = False
    waiting: tuple[str, ...] = ()


def plan(state: State, settings: Settings) -> Plan:
    """Decide the next action.

    The order matters: labels first (they make the order), a first queue before the whole pool is
    embedded (people wait for it), deletions last (they slow annotators down).
    """
    if state.paused:
        return Plan(None, "paused; `rarefirst resume` goes on")
    if not state.synced:
        return Plan("sync", "something changed in Label Studio")
    if not state.completed:
        return Plan("connect", "the connection was made by hand and is completed once")
    if state.config_error:
        if state.finetune.wish == "cancel":
            return Plan("promote", "a person cancelled the fine-tune")
        return Plan(None, state.config_error)
    pin = None if state.force_fit else state.pin  # Start training ends it
    if pin is not None and not pin.in_place:
        return Plan("activate", f"a person activated {pin.version}")
    waiting: list[str] = []
    if pin is not None:
        waiting.append(_held(pin, state))
    promote = promotion(state.finetune, pin, waiting)
    if promote:
        return Plan("promote", promote, waiting=tuple(waiting))
    bootstrap = "" if pin is not None else _bootstrap(state, settings, waiting)
    if bootstrap:
        return Plan("bootstrap", bootstrap, waiting=tuple(waiting))
    if state.missing_labeled:
        why = f"{state.missing_labeled} labeled images have no features"
        return Plan("embed", why, which="labeled", waiting=tuple(waiting))
    wanted = min(settings.first_queue_images, state.pool)
    serving = state.queue is not None and state.fit is not None and state.fit.same_backbone
    if pin is not None and state.queue is not None and state.queue.version != pin.version:
        serving = False  # tasks that are newer than an older version get their place in its order
    if state.missing_pool and state.embedded_pool < wanted and not serving:
        why = f"{state.embedded_pool} of the {wanted} images for a first queue are embedded"
        return Plan("embed", why, waiting=tuple(waiting))
    fit = "" if pin is not None else _fit(state, settings, waiting)
    if fit:
        return Plan("fit", fit, waiting=tuple(waiting))
    publish = _publish(state, settings, waiting)
    if publish:
        return Plan("publish", publish, waiting=tuple(waiting))
    begin = finetune(state, pin, settings, waiting)
    if begin:
        return Plan("finetune", begin, waiting=tuple(waiting))
    if state.missing_pool or state.retries:
        why = f"{state.missing_pool + state.retries} images have no features"
        return Plan("embed", why, idle=True, waiting=tuple(waiting))
    if state.leftovers:
        why = f"{state.leftovers} old sets of scores are in Label Studio"
        return Plan("cleanup", why, idle=True, waiting=tuple(waiting))
    return Plan(None, "everything is done; waiting for labels", waiting=tuple(waiting))


def _held(pin: PinFacts, state: State) -> str:
    """What the loop leaves undone while it keeps to a version that a person activated."""
    words = f"nothing is fitted: a person activated {pin.version}"
    if state.backbone_wanted:
        words += ", though the settings ask for another frozen model"
    return f"{words}; `rarefirst versions follow` or Start training ends that"


def _bootstrap(state: State, settings: Settings, waiting: list[str]) -> str:
    if state.backbone is None:
        return "there is no frozen model yet"
    if state.backbone_wanted:
        if not state.bootstrap_blocked:
            return "the settings ask for another frozen model"
        waiting.append(state.bootstrap_blocked)
        return ""
    if not state.trainable:
        return ""
    if state.backbone.how == "fine-tuned" and state.finetune.enabled:
        return ""  # it goes on from there, and is judged, which one trained anew would not be
    labels = state.usable_labels
    target = max(settings.bootstrap_min_labels, 2 * state.backbone.labels)
    if state.backbone.labels and labels < target:
        waiting.append(f"the frozen model is trained again at {target} labels, there are {labels}")
    elif labels < target:
        waiting.append(f"a first model is trained at {target} labels, there are {labels}")
    elif state.too_alike:
        waiting.append(state.too_alike)
    elif state.bootstrap_blocked:
        waiting.append(state.bootstrap_blocked)
    elif state.backbone.labels and state.finetune.number and not state.finetune.over:
        waiting.append("the frozen model is not trained anew while it is fine-tuned")
    elif state.backbone.labels:
        return f"the labels have doubled since the frozen model was trained ({labels})"
    else:
        return f"{labels} labels are enough to train a first model"
    return ""


def _fit(state: State, settings: Settings, waiting: list[str]) -> str:
    fit = state.fit
    if not state.embedded:
        waiting.append("nothing is fitted before an image is embedded")
        return ""
    if fit is None:
        return "nothing was fitted yet"
    if state.force_fit:
        return "a person pressed Start training"
    if not fit.same_backbone:
        return "the frozen model changed"
    if not fit.same_classes:
        return "the label config's classes changed"
    if fit.settings_changed:
        return f"the settings changed: {', '.join(fit.settings_changed)}"
    if fit.labels_differing >= settings.fit_every_labels:
        return f"{fit.labels_differing} labels are new since the last fit"
    if fit.labels_differing and state.labels_changed_ago_s >= settings.fit_idle_s:
        return f"{fit.labels_differing} labels are new and no more came"
    waiting.append(
        f"the next fit is at {settings.fit_every_labels} new labels, there are "
        f"{fit.labels_differing}"
        + (f" (or {settings.fit_idle_s:g} s after the last)" if fit.labels_differing else "")
    )
    return ""


def _publish(state: State, settings: Settings, waiting: list[str]) -> str:
    queue = state.queue
    if not state.embedded_pool:
        waiting.append(
            "nothing is published: every task is labeled"
            if not state.pool
            else "nothing is published: no unlabeled image could be embedded"
        )
        return ""
    if not state.may_switch:
        waiting.append(f"nothing is published: the project's model version is {state.owner}")
        return ""
    if state.candidate:
        return "a publication was begun and not finished"
    if queue is None:
        return "nothing was published yet"
    if state.lost:
        return "Label Studio no longer holds the published scores"
    if state.fit is not None and queue.version != state.fit.version:
        return f"{state.fit.version} is active, {queue.version} is published"
    if queue.settings_changed:
        return f"the settings changed: {', '.join(queue.settings_changed)}"
    more = state.embedded_pool > queue.left
    if more and queue.left < settings.top_up_below * queue.size:
        return f"{queue.left} of {queue.size} published tasks are left"
    new = state.embedded - queue.embedded
    if new > 0 and (not state.missing_pool or new >= queue.embedded):
        return f"{new} images were embedded since the last publication"
    return ""
