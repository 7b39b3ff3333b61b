"""Means and spreads over draws, for each choice of tail classes and over all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.sifar.cells import Cell, CellStore, FrozenName, Result, Task

#: Stands for all choices of tail classes together.
ALL = "all"


@dataclass(frozen=True)
class Spread:
    """A figure over several draws.

    Attributes:
        mean: of all of them.
        sd: sample standard deviation over the draws of one tail choice; of several choices the
            root of the mean variance, so that it tells the seeds' noise and not how the choices
            differ. NaN where no choice has two draws.
        least: the smallest.
        most: the largest.
        n: how many.
    """

    mean: float
    sd: float
    least: float
    most: float
    n: int

    @classmethod
    def of(cls, groups: Sequence[Sequence[float]]) -> Spread:
        """Over groups of draws, none of them empty."""
        values = [value for group in groups for value in group]
        several = [statistics.variance(group) for group in groups if len(group) > 1]
        sd = math.sqrt(statistics.fmean(several)) if several else math.nan
        return cls(statistics.fmean(values), sd, min(values), max(values), len(values))


@dataclass(frozen=True)
class Case:
    """What the draws of a line have in common.

    Attributes:
        task, frozen, labels, entry: as in ``Cell``.
        tail: a choice of tail classes, or ``ALL``.
    """

    task: Task
    frozen: FrozenName
    labels: int | None
    entry: str
    tail: str = ALL


@dataclass(frozen=True)
class Line:
    """All draws of a case.

    Attributes:
        figures: by name.
        results: of each tail choice; for curves.
        refused: the scorer's words, where it refused.
    """

    figures: dict[str, Spread]
    results: dict[str, list[Result]] = field(default_factory=dict)
    refused: str = ""


Lines = Mapping[Case, Line]


def gather(cells: Sequence[Cell], store: CellStore) -> Lines:
    """Everything that is computed by now, by case."""
    found: dict[Case, dict[str, list[Result]]] = {}
    for cell in cells:
        result = store.get(cell)
        if result is not None:
            for tail in (cell.tail, ALL):
                case = Case(cell.task, cell.frozen, cell.labels, cell.entry, tail)
                found.setdefault(case, {}).setdefault(cell.tail, []).append(result)
    return {case: _line(results) for case, results in found.items()}


def _line(results: dict[str, list[Result]]) -> Line:
    refused = {result.refused for some in results.values() for result in some if result.refused}
    if refused:
        return Line({}, results, refused="; ".join(sorted(refused)))
    names = dict.fromkeys(name for some in results.values() for r in some for name in r.figures)
    return Line(
        {
            name: Spread.of([[r.figures[name] for r in some] for some in results.values()])
            for name in names
        },
        results,
    )
