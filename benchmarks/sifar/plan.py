"""Which cells there are, and what they are expected to cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.sifar.cells import Cell, CellStore, FrozenName
from models.scorers import SCORERS

#: Tail choices and draws that are reported, and those on which everything was chosen.
REPORTED = (("airplane,automobile", "bird,frog", "ship,dog"), (0, 1, 2, 3, 4))
DEVELOP = (("cat,truck", "deer,horse"), (10, 11, 12, 13, 14))

#: Ranked at other numbers of labels too.
FEW = (
    "rarefirst", "tail_mass_rc", "tail_mass", "paper", "galaxy", "direct", "mahalanobis",
    "entropy", "random",
)  # fmt: skip
LABELS = (0, 1, 4, 20, 58)
#: At the numbers of labels that no goal is about: what uses the tail list, and two baselines.
FEWER = ("rarefirst", "tail_mass_rc", "tail_mass", "paper", "random")
ALL_OF_FEW_AT = (0, 4)
#: Played for five rounds.
PLAYED = (*FEW, "galaxy_on_tail", "direct_on_tail")
#: The published method, whose autoencoder's seed decides: one draw, several seeds of the ranker.
SINGLE, RANKERS = ("paper_single", "paper_single_released"), (0, 1, 2, 3, 4)

#: Seconds of a cell of which none was computed yet.
_USUAL = {"rank": 6.0, "rounds": 30.0, "likelihood": 12.0}
_FROZEN: tuple[FrozenName, ...] = ("cnn", "eff")


@dataclass(frozen=True)
class Plan:
    """Tail choices, draws and frozen models of a run."""

    tails: Sequence[str]
    draws: Sequence[int]
    frozen: Sequence[FrozenName] = _FROZEN

    def cells(self) -> list[Cell]:
        """All cells; those of the same draw follow each other."""
        return [
            cell
            for frozen, tail, draw in product(self.frozen, self.tails, self.draws)
            for cell in _of_draw(frozen, tail, draw, first=draw == self.draws[0])
        ]


def _of_draw(frozen: FrozenName, tail: str, draw: int, *, first: bool) -> Iterator[Cell]:
    for name in SCORERS:
        yield Cell("rank", frozen, tail, draw, None, name, ranker=draw)
    for name, ranker in product(SINGLE, RANKERS if first else ()):
        yield Cell("rank", frozen, tail, draw, None, name, ranker=ranker)
    for name in PLAYED:
        yield Cell("rounds", frozen, tail, draw, None, name, ranker=draw)
    yield Cell("likelihood", frozen, tail, draw, None, "rarefirst", ranker=draw)
    for labels in LABELS:
        for name in FEW if labels in ALL_OF_FEW_AT else FEWER:
            yield Cell("rank", frozen, tail, draw, labels, name, ranker=draw)


def costs(cells: Sequence[Cell], store: CellStore) -> dict[Cell, float]:
    """Seconds of processor time of each cell: the median of those like it that were computed."""
    known: dict[tuple[str, ...], list[float]] = {}
    for cell in cells:
        result = store.get(cell)
        if result is not None:
            for alike in _alike(cell):
                known.setdefault(alike, []).append(result.cpu_s)
    return {
        cell: next(
            (statistics.median(known[alike]) for alike in _alike(cell) if alike in known),
            _USUAL[cell.task],
        )
        for cell in cells
    }


def _alike(cell: Cell) -> Iterator[tuple[str, ...]]:
    """What a cell resembles, the closest first."""
    yield (cell.task, cell.frozen, cell.entry, str(cell.labels))
    yield (cell.task, cell.frozen, cell.entry)
    yield (cell.task, cell.entry)
    yield (cell.task, cell.frozen)
