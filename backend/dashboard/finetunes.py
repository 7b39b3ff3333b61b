"""Fine-tunes: what each came to, its loss, and every class before and after."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from backend.finetunes import Finetune, Finetunes
from backend.projects import ProjectStore

_SHOWN = 5


class _Class(BaseModel):
    """Of a class in ``outcome.json`` what is shown; of boxes ``ap`` and ``boxes``."""

    name: str
    recall: float | None = None
    ap: float | None = None
    count: int | None = None
    boxes: int | None = None

    @property
    def worth(self) -> float | None:
        return self.recall if self.boxes is None else self.ap

    @property
    def examples(self) -> int:
        return (self.count if self.boxes is None else self.boxes) or 0


class _Figures(BaseModel):
    kind: str = "classes"
    classes: tuple[_Class, ...] = ()
    tail: tuple[int, ...] = ()


class _Verdict(BaseModel):
    reasons: tuple[str, ...] = ()
    compared: str = ""
    before: _Figures | None = None
    after: _Figures | None = None


class _Outcome(BaseModel):
    """Of ``outcome.json`` what is shown; the whole is the recipe's own, and needs torch."""

    verdict: _Verdict


class BeforeAfter(BaseModel):
    """A class: recall (of boxes AP) by the model before and by the trained one."""

    model_config = ConfigDict(frozen=True)

    name: str
    rare: bool
    before: float | None
    after: float | None
    examples: int


class FinetuneCard(BaseModel):
    """One fine-tune.

    Attributes:
        figure: what classes are compared by, ``recall`` or ``AP``.
        before, after: means over the classes that count; None where nothing was measured.
        loss: mean loss of each epoch.
        validation: what it was worth after each epoch, where that was looked at.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    state: str
    at: datetime | None = None
    why: str = ""
    strategy: str = ""
    labels: int = 0
    held_out: int = 0
    before: float | None = None
    after: float | None = None
    reasons: tuple[str, ...] = ()
    compared: str = ""
    figure: str = "recall"
    classes: tuple[BeforeAfter, ...] = ()
    loss: tuple[float, ...] = ()
    validation: tuple[float, ...] = ()


def finetune_cards(store: ProjectStore) -> tuple[FinetuneCard, ...]:
    """The last fine-tunes, newest first."""
    return tuple(_card(run) for run in reversed(Finetunes(store).all()[-_SHOWN:]))


def _card(run: Finetune) -> FinetuneCard:
    about, record, outcome = run.run, run.record, _outcome(run)
    verdict = outcome.verdict if outcome is not None else _Verdict()
    loss, validation = _epochs(run)
    boxes = verdict.before is not None and verdict.before.kind == "boxes"
    failure = (record.failure,) if record.failure else ()
    card = FinetuneCard(
        number=run.number,
        state=record.state,
        before=record.before,
        after=record.after,
        reasons=record.reasons or verdict.reasons or failure,
        compared=record.compared or verdict.compared,
        figure="AP" if boxes else "recall",
        classes=_classes(verdict),
        loss=loss,
        validation=validation,
    )
    if about is None:
        return card
    return card.model_copy(
        update={
            "at": about.at,
            "why": about.why,
            "strategy": about.config.strategy,
            "labels": len(about.labels) - len(about.held_out),
            "held_out": len(about.held_out),
        }
    )


def _outcome(run: Finetune) -> _Outcome | None:
    try:
        return _Outcome.model_validate_json((run.path / "outcome.json").read_bytes())
    except (OSError, ValidationError):
        return None


def _classes(verdict: _Verdict) -> tuple[BeforeAfter, ...]:
    """The classes that have examples, the rare ones first."""
    if verdict.before is None or verdict.after is None:
        return ()
    after = {one.name: one for one in verdict.after.classes}
    rows = [
        BeforeAfter(
            name=old.name,
            rare=number in verdict.before.tail,
            before=old.worth,
            after=after[old.name].worth if old.name in after else None,
            examples=old.examples,
        )
        for number, old in enumerate(verdict.before.classes)
        if old.examples
    ]
    return tuple(sorted(rows, key=lambda row: (not row.rare, row.name)))


def _epochs(run: Finetune) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Loss and validation figure of each epoch; half a line at the end is left out."""
    try:
        lines = (run.path / "metrics.jsonl").read_bytes().splitlines()
    except OSError:
        return (), ()
    loss, validation = [], []
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if not isinstance(found, Mapping):
            continue
        if isinstance(found.get("loss"), int | float):
            loss.append(float(found["loss"]))
        validation += [
            float(value)
            for name, value in found.items()
            if str(name).startswith("validation_") and isinstance(value, int | float)
        ]
    return tuple(loss), tuple(validation)
