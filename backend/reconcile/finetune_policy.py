"""When the frozen model is fine-tuned, and when what came of it is promoted. Pure, as `plan` is."""

from __future__ import annotations

from backend.reconcile.state import FinetuneFacts, PinFacts, State
from backend.settings import Settings

#: As many as a judgement takes (models/recipes/judge_finetune.py, which is torch's to import).
TO_JUDGE = 5


def promotion(facts: FinetuneFacts, pin: PinFacts | None, waiting: list[str]) -> str:
    """Why a run is to be put away now, or its network made the active one; empty if nothing is.

    Args:
        facts: what is known of fine-tunes.
        pin: the version that a person activated.
        waiting: what is not done yet, and why, is added here.
    """
    if facts.wish == "cancel":
        return "a person cancelled the fine-tune"
    if not facts.over:
        return ""
    if facts.promotes and pin is not None:
        waiting.append(
            f"fine-tune {facts.number} is better and waits: a person activated {pin.version}; "
            "`rarefirst versions follow` lets it take its place"
        )
        return ""
    return facts.over


def finetune(state: State, pin: PinFacts | None, settings: Settings, waiting: list[str]) -> str:
    """Why the child process of a fine-tune is started now; empty if it is not."""
    facts = state.finetune
    if facts.number:
        return _resume(facts, waiting)
    if not (facts.enabled or facts.wish):
        return ""
    hindrance = facts.unable or _held_up(state, pin)
    if hindrance:
        waiting.append(f"no fine-tune: {hindrance}")
        return ""
    if facts.wish:
        return _unless_busy("a person asked for a fine-tune", facts, waiting)
    missing = _missing(facts, settings, waiting)
    if missing:
        waiting.append(missing)
        return ""
    if facts.quiet or facts.spent:
        waiting.append(f"a fine-tune is due and waits: {facts.quiet or facts.spent}")
        return ""
    return _unless_busy(
        f"{facts.new_labels} labels are new since the last fine-tune", facts, waiting
    )


def _resume(facts: FinetuneFacts, waiting: list[str]) -> str:
    if facts.running or facts.over:
        return ""
    if facts.died:
        return facts.died
    if facts.blocked:
        waiting.append(facts.blocked)
        return ""
    return _unless_busy(f"fine-tune {facts.number} goes on where it was", facts, waiting)


def _held_up(state: State, pin: PinFacts | None) -> str:
    """What has to be there, or gone, before anybody can be served."""
    if state.backbone is None or state.backbone.how == "untrained":
        return "the frozen model is not trained yet"
    if pin is not None and state.finetune.wish != "start":
        return f"a person activated {pin.version}"
    return ""


def _missing(facts: FinetuneFacts, settings: Settings, waiting: list[str]) -> str:
    """How many labels are missing before one is due."""
    wanted = settings.finetune_every_labels
    if facts.new_labels < wanted:
        return f"the next fine-tune is at {wanted} new labels, there are {facts.new_labels}"
    if not facts.tail:
        return "no fine-tune: no class is rare"
    least = settings.finetune_min_tail_labels
    none = [name for name, count in facts.tail.items() if not count]
    few = [f"{name} has {count}" for name, count in facts.tail.items() if 0 < count < least]
    if few:
        return f"a fine-tune needs {least} labels of each rare class: {', '.join(few)}"
    blind = [
        f"{name} has {facts.unseen.get(name, 0)}"
        for name, count in facts.tail.items()
        if count and facts.unseen.get(name, 0) < TO_JUDGE
    ]
    if blind:
        return (
            f"a fine-tune needs {TO_JUDGE} labels of each rare class that the frozen model was not "
            f"trained on, to be judged by: {', '.join(blind)}"
        )
    if len(none) == len(facts.tail):
        return f"no fine-tune: there is no label of {', '.join(none)}"
    if none:
        waiting.append(f"a fine-tune goes without {', '.join(none)}: there is no label of it")
    return ""


def _unless_busy(why: str, facts: FinetuneFacts, waiting: list[str]) -> str:
    if facts.busy:
        waiting.append(f"{why}; it waits: {facts.busy}")
        return ""
    return why
