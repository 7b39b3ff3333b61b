"""What a simulation came to: records for JSON, made from the games that were played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from backend.simulation.games import BASELINE
from backend.simulation.kept import Game
from models.intervals import Interval
from models.labels_saved import Saving, found_interval, saving
from models.metrics import BoolArray, found_at
from models.plots.curves import Curve
from models.types import IntArray

SHARES = (0.5, 0.8, 0.9)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class UnreadImage(_Record):
    """An image that is left out because it could not be read."""

    file: str
    reason: str


class OrderReport(_Record):
    """What one scorer found."""

    scorer: str
    found: tuple[Interval, ...] = Field(
        (), description="rare ones found after each round, mean over the repeats"
    )
    found_by_repeat: tuple[tuple[int, ...], ...] = Field((), description="the same for each repeat")
    by_class: dict[str, tuple[Interval, ...]] = Field(
        default_factory=dict, description="found after each round of each tail class"
    )
    savings: tuple[Saving, ...] = Field((), description="labels to reach a share of the rare ones")
    notes: tuple[str, ...] = Field((), description="why its order was not what was asked for")
    refused: str = Field("", description="why it could not be played, else empty")
    seconds: float = Field(0.0, description="of one game, mean over the repeats")


class SimulationReport(_Record):
    """``simulate.json``."""

    dataset: str
    kind: str = Field(description="folder, zip or export")
    classes: dict[str, int] = Field(description="images of each class that could be read")
    tail: tuple[str, ...]
    tail_from: str = Field(description="named, or skewness")
    left_out: dict[str, int] = Field(description="reason -> how many are not used")
    unread: tuple[UnreadImage, ...]
    frozen_model: str
    start: dict[str, int] = Field(description="labels at the start of each class")
    pool: int
    rare: dict[str, int] = Field(description="images in the pool of each tail class")
    labels: tuple[int, ...] = Field(description="labels given after each round")
    rounds: int
    batch: int
    repeats: int
    seed: int
    orders: tuple[OrderReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Rare images in the pool."""
        return sum(self.rare.values())

    def played(self) -> tuple[OrderReport, ...]:
        """The orders that could be played."""
        return tuple(order for order in self.orders if not order.refused)

    def curves(self) -> list[Curve]:
        """What is drawn: each from no label and nothing found."""
        return [
            Curve(
                name=order.scorer,
                labels=(0, *self.labels),
                found=(0.0, *(interval.mean for interval in order.found)),
                low=(0.0, *(interval.low for interval in order.found)),
                high=(0.0, *(interval.high for interval in order.found)),
                baseline=order.scorer == BASELINE,
            )
            for order in self.played()
        ]


def order_report(
    games: Sequence[Game],
    baseline: Sequence[Game],
    *,
    targets: IntArray,
    tail: Mapping[str, int],
    labels: Sequence[int],
    rare: Mapping[str, int],
) -> OrderReport:
    """Sum up the games of one scorer.

    Args:
        games: one a repeat.
        baseline: random order over the whole pool, one a repeat, in the same order.
        targets: (N,) class indices of the images.
        tail: class index of each tail class.
        labels: labels given after each round.
        rare: images in the pool of each tail class.
    """
    scorer = games[0].scorer
    refused = next((game.refused for game in games if game.refused), "")
    notes = tuple(dict.fromkeys(note for game in games for note in game.explanations))
    if refused:
        return OrderReport(scorer=scorer, refused=refused, notes=notes)
    wanted, total = list(tail.values()), sum(rare.values())
    hits = [_hits(game, targets, wanted) for game in games]
    chance = [_hits(game, targets, wanted) for game in baseline]
    return OrderReport(
        scorer=scorer,
        found=_after_each_round(hits, labels, total),
        found_by_repeat=tuple(tuple(found_at(one, n) for n in labels) for one in hits),
        by_class={
            name: _after_each_round(
                [_hits(game, targets, [number]) for game in games], labels, rare[name]
            )
            for name, number in tail.items()
        },
        savings=tuple(saving(hits, chance, total=total, share=share) for share in SHARES),
        notes=notes,
        seconds=sum(game.seconds for game in games) / len(games),
    )


def _hits(game: Game, targets: IntArray, wanted: Sequence[int]) -> BoolArray:
    """Whether the n-th labeled image is of a wanted class."""
    hits: BoolArray = np.isin(targets[np.asarray(game.served, dtype=np.int64)], wanted)
    return hits


def _after_each_round(
    hits: Sequence[BoolArray], labels: Sequence[int], total: int
) -> tuple[Interval, ...]:
    # Who gave n labels has found n at most.
    return tuple(found_interval([found_at(one, n) for one in hits], min(total, n)) for n in labels)
