"""What two versions are made of, side by side: cards and labels, no features and no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from backend.reconcile.state import LabelSnapshot
from models.registry import Version


class Pair(BaseModel):
    """One thing that can be told of both; None where one lacks it."""

    model_config = ConfigDict(frozen=True)

    a: JsonValue = None
    b: JsonValue = None

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return self.a == self.b


class LabelDifference(BaseModel):
    """Labels of ``b``'s snapshot against those of ``a``'s, counted.

    Attributes:
        added, removed: by class, of boxes by the classes of an image.
        changed: by ``from -> to``.
    """

    model_config = ConfigDict(frozen=True)

    added: dict[str, int] = Field(default_factory=dict)
    removed: dict[str, int] = Field(default_factory=dict)
    changed: dict[str, int] = Field(default_factory=dict)
    same: int = 0


class Overlap(BaseModel):
    """How many tasks the first places of both orders have in common."""

    model_config = ConfigDict(frozen=True)

    first: int
    common: int


class OrderLikeness(BaseModel):
    """How alike two versions order the tasks that are unlabeled now.

    Attributes:
        tasks: unlabeled tasks with features for both, which is what is compared.
        overlap: of the first places.
        spearman: rank correlation of rarity in [-1, 1]; None where one of them finds every task
            equally rare, as a diversity order does.
        why_not: why the orders cannot be compared, empty where they are.
    """

    model_config = ConfigDict(frozen=True)

    tasks: int = 0
    overlap: tuple[Overlap, ...] = ()
    spearman: float | None = None
    why_not: str = ""


def label_difference(before: LabelSnapshot, after: LabelSnapshot) -> LabelDifference:
    """What became of the labels between two snapshots; boxes that moved are changed labels."""
    a, b = before.as_dict(), after.as_dict()
    old, new = before.in_words(), after.in_words()
    both = a.keys() & b.keys()
    return LabelDifference(
        added=dict(Counter(new[i] for i in b.keys() - a.keys())),
        removed=dict(Counter(old[i] for i in a.keys() - b.keys())),
        changed=dict(Counter(f"{old[i]} -> {new[i]}" for i in both if a[i] != b[i])),
        same=sum(a[i] == b[i] for i in both),
    )


def config_of(version: Version) -> dict[str, JsonValue]:
    """What it was made with, setting by setting; the frozen model is told by itself."""
    from backend.reconcile.made_with import KEY  # imports the mirror

    config = dict(version.card.config)
    config.pop("frozen_model", None)
    made_with = config.pop(KEY, None)
    settings = made_with if isinstance(made_with, dict) else {}
    return {**settings, **config, "seed": version.card.seed, "kind": version.card.kind}


def pairs(a: Mapping[str, JsonValue], b: Mapping[str, JsonValue]) -> dict[str, Pair]:
    """Two sets of named things, name by name."""
    return {name: Pair(a=a.get(name), b=b.get(name)) for name in sorted({*a, *b})}
