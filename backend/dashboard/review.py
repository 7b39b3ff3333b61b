"""Labels that the last fine-tune doubts: the hardest ones, or likely wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from backend.dashboard.pictures import Picture, Pictures
from backend.finetunes import Finetunes
from backend.mirror_reader import MirrorReader
from backend.projects import ProjectStore
from backend.reconcile.state import SyncState
from backend.settings import Settings
from models.tasks import classes_in
from models.tasks.base import DETECTION

_SHOWN = 24


class _Suspect(BaseModel):
    id: int
    label: str
    instead: str
    label_share: float
    instead_share: float
    score: float


class _Review(BaseModel):
    """``review.json`` as the recipe writes it; its own model needs torch."""

    by: Literal["difficulty", "loss"]
    out_of_sample: bool
    suspects: tuple[_Suspect, ...]


class DoubtedCard(BaseModel):
    """One label; shares are of 1. ``boxes``: the labels are numbers of boxes by class."""

    model_config = ConfigDict(frozen=True)

    task: int
    picture: Picture
    label: str
    instead: str
    boxes: bool = False
    label_share: float
    instead_share: float
    score: float


class ReviewPanel(BaseModel):
    """The most doubtful labels that nobody has changed since; ``finetune`` 0: there is no review.

    Attributes:
        by: what they are ordered by, ``difficulty`` or ``loss``.
        out_of_sample: the network that doubts a label had not learned from it.
        standing: how many there are; looked_at: how many were changed since.
    """

    model_config = ConfigDict(frozen=True)

    finetune: int = 0
    by: str = ""
    out_of_sample: bool = False
    standing: int = 0
    looked_at: int = 0
    cards: tuple[DoubtedCard, ...] = ()


def review_panel(settings: Settings, store: ProjectStore, *, images: bool) -> ReviewPanel:
    """Read what the last fine-tune left, and from the mirror whether it still holds.

    Raises:
        BackendError: where the mirror cannot be read.
    """
    number, review = _last(store)
    if review is None:
        return ReviewPanel()
    tasks = MirrorReader(store.path("mirror")).some([doubt.id for doubt in review.suspects])
    rows = {} if tasks is None else {int(task): row for row, task in enumerate(tasks.ids)}
    kind = (store.read("sync.json", SyncState) or SyncState()).task
    pictures = Pictures(settings, store, shown=images)
    cards = [
        DoubtedCard(
            task=doubt.id,
            picture=pictures.of(str(tasks.uris[rows[doubt.id]])),
            label=_shown(kind, doubt.label),
            instead=doubt.instead or "nothing",
            boxes=kind == DETECTION,
            label_share=doubt.label_share,
            instead_share=doubt.instead_share,
            score=doubt.score,
        )
        for doubt in review.suspects
        if tasks is not None
        and doubt.id in rows
        and tasks.states[rows[doubt.id]] == "labeled"
        and tasks.labels[rows[doubt.id]] == doubt.label
    ]
    return ReviewPanel(
        finetune=number,
        by=review.by,
        out_of_sample=review.out_of_sample,
        standing=len(cards),
        looked_at=len(review.suspects) - len(cards),
        cards=tuple(cards[:_SHOWN]),
    )


def _last(store: ProjectStore) -> tuple[int, _Review | None]:
    for run in reversed(Finetunes(store).all()):
        try:
            return run.number, _Review.model_validate_json((run.path / "review.json").read_bytes())
        except (OSError, ValidationError):
            continue
    return 0, None


def _shown(kind: str, label: str) -> str:
    """A label for people: of boxes how many there are of each class."""
    if kind != DETECTION:
        return label
    names = classes_in(kind, label)
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"
