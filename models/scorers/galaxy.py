"""GALAXY: find on each class line where neighbouring labels differ, then label outwards from there.

About half of what is asked for then falls on the rare side, however rare the class.
Source: Zhang, Katz-Samuels and Nowak 2022, arXiv:2202.01402; steps as in METHODS section 20.1,
which the authors' code settles. Lines take turns. Instead of graphs: the gaps between opposite
labels in a heap, and for each cut a march outwards. The order after an answer is not raised, as in
the code, for all lines at once; each line goes by the distance to its nearest cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush, heapreplace

import numpy as np

from models.scorers.class_lines import ClassLineScorer, Signs
from models.types import Examples, IntArray, RankedQueue


class Galaxy(ClassLineScorer):
    """Bisection of class lines, one line after the other.

    Needs labels of two classes and the original head.
    """

    def ask(
        self, pool: Examples, oracle: Callable[[IntArray], IntArray], *, budget: int, seed: int
    ) -> RankedQueue:
        """One by one: each choice knows all answers before it, on every line. No randomness."""
        lines = self.lines(pool)
        searches: dict[int, CutSearch] = {}
        asked: list[int] = []
        reasons: list[str] = []
        for turn in range(min(max(budget, 0), len(pool))):
            number = turn % len(lines.of)
            if number not in searches:
                searches[number] = CutSearch(lines.signs(number))
            position, why = searches[number].next()
            row = int(lines.order(number)[position])
            asked.append(row)
            reasons.append(self._reason(lines.of[number], why))
            target = lines.tell(np.asarray([row]), oracle(lines.ids[row : row + 1]))[0]
            for other, search in searches.items():
                search.tell(int(lines.places(other)[row]), 1 if target == lines.of[other] else -1)
        return RankedQueue(ids=lines.ids[np.asarray(asked, dtype=np.int64)], reasons=tuple(reasons))

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Lines in turn, each by ``CutSearch.unanswered``: the same first pick as ``ask``."""
        lines = self.lines(pool)
        turns: dict[int, Iterator[tuple[int, str]]] = {}
        picked = np.zeros(len(lines.ids), dtype=bool)
        asked: list[int] = []
        reasons: list[str] = []
        for turn in range(min(max(budget, 0), len(pool))):
            number = turn % len(lines.of)
            if number not in turns:
                turns[number] = CutSearch(lines.signs(number)).unanswered()
            order = lines.order(number)
            row, why = next(
                (int(order[i]), why) for i, why in turns[number] if not picked[order[i]]
            )
            picked[row] = True
            asked.append(row)
            reasons.append(self._reason(lines.of[number], why))
        return RankedQueue(ids=lines.ids[np.asarray(asked, dtype=np.int64)], reasons=tuple(reasons))

    def _reason(self, number: int, why: str) -> str:
        return f"{why} {self._classes.names[number]}"


class CutSearch:
    """Search one line for the places where its labels change sign.

    A *gap* is a run of unlabeled positions between two labels of opposite signs, a *cut* two such
    labels side by side. A pick takes O(log N), an answer O(log N) and a move of the labels behind.

    Args:
        signs: (N,) along the line: +1, -1, 0 unlabeled; kept, and changed by ``tell``.
    """

    def __init__(self, signs: Signs) -> None:
        self._signs = signs
        before, after = _opposites(signs)
        self._labeled: list[int] = np.flatnonzero(signs).tolist()
        closed = after - before == 1
        # Length and label before; a gap into which a label fell is dropped when it comes up.
        gaps = zip((after - before)[~closed].tolist(), before[~closed].tolist(), strict=True)
        self._gaps: list[tuple[int, int]] = list(gaps)
        heapify(self._gaps)
        # Distance to the cut, position, direction: a march, at the first that may be unlabeled.
        self._marches: list[tuple[int, int, int]] = [
            march
            for cut in before[closed].tolist()
            for march in ((1, cut - 1, -1), (1, cut + 2, 1))
        ]
        heapify(self._marches)
        self._top = 0

    def next(self) -> tuple[int, str]:
        """The unlabeled position to ask for now, and which step of the method chose it.

        The middle of the shortest gap; without gaps the position nearest to a cut; with labels of
        one sign only the first. Ties go to the smaller position.

        Raises: IndexError: if all positions are labeled.
        """
        while self._gaps:
            length, before = self._gaps[0]
            if self._labeled[bisect_right(self._labeled, before)] == before + length:
                return before + length // 2, "search"
            heappop(self._gaps)
        while self._marches:
            distance, position, step = self._marches[0]
            if 0 <= position < len(self._signs):
                sign = self._signs.item(position)
                if not sign:
                    return position, "cut"
                # Behind another cut, that one is nearer.
                if sign == self._signs.item(position - step):
                    heapreplace(self._marches, (distance + 1, position + step, step))
                    continue
            heappop(self._marches)
        while self._signs[self._top]:
            self._top += 1
        return self._top, "top"

    def tell(self, position: int, sign: int) -> None:
        """Take the label of an unlabeled position."""
        at = bisect_left(self._labeled, position)
        self._labeled.insert(at, position)
        self._signs[position] = sign
        for left in (at - 1, at):
            if left < 0 or left + 1 == len(self._labeled):
                continue
            before, after = self._labeled[left], self._labeled[left + 1]
            if self._signs[before] == self._signs[after]:
                continue
            if after - before > 1:
                heappush(self._gaps, (after - before, before))
            else:
                heappush(self._marches, (1, before - 1, -1))
                heappush(self._marches, (1, after + 1, 1))

    def unanswered(self) -> Iterator[tuple[int, str]]:
        """Positions in the order in which to ask for them where no answer comes in between.

        Gaps from short to long, each halved again and again from the left: the first m = 1, 3, 7,
        ... lie as evenly as an (m + 1)-ary search has them, and no pick depends on how many follow.
        Then by distance to the nearest cut or closed gap. A position may come twice.
        """
        before, after = _opposites(self._signs)
        for gap in np.argsort(after - before, kind="stable"):
            for position in _halved(int(before[gap]), int(after[gap])):
                yield position, "search"
        unlabeled = np.flatnonzero(self._signs == 0)
        if not len(before):
            for position in unlabeled.tolist():
                yield position, "top"
            return
        far = len(self._signs)
        onwards = np.append(before, 2 * far)[np.searchsorted(before, unlabeled)] - unlabeled
        behind = np.insert(after, 0, -far)[np.searchsorted(after, unlabeled)]
        distance = np.minimum(onwards, unlabeled - behind)
        for position in unlabeled[np.argsort(distance, kind="stable")].tolist():
            yield position, "cut"


def _opposites(signs: Signs) -> tuple[IntArray, IntArray]:
    """(C,) positions before and after each change of sign from one label to the next."""
    labeled = np.flatnonzero(signs)
    change = signs[labeled[:-1]] != signs[labeled[1:]]
    return labeled[:-1][change], labeled[1:][change]


def _halved(before: int, after: int) -> Iterator[int]:
    """All positions between two: the middle, then the middles of both halves, and so on."""
    runs = deque([(before, after)])
    while runs:
        first, last = runs.popleft()
        if last - first < 2:
            continue
        middle = (first + last) // 2
        yield middle
        runs += ((first, middle), (middle, last))
