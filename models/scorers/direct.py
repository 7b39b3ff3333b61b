"""DIRECT: estimate where each class ends on its line, then label around that threshold.

Half of the budget searches the thresholds by drawing at random from a window that shrinks, the
other half goes to both sides of them; a wrong label moves an error count less than a bisection.
Source: Nuggehalli, Zhang, Jain and Nowak 2025, arXiv:2312.09196; steps as in METHODS section 20.2.
Ours are the order of classes, the budget of each, and the place of a threshold within ties.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain, cycle, repeat

import numpy as np
from numpy.typing import NDArray

from models.scorers.class_lines import ClassLines, ClassLineScorer, Signs
from models.types import Examples, IntArray, RankedQueue

_SEARCH = 60  # labels that a search gets before another class is searched too (released)


class Direct(ClassLineScorer):
    """Threshold search and picks around the thresholds, half and half.

    Needs labels of two classes and the original head.
    """

    def ask(
        self, pool: Examples, oracle: Callable[[IntArray], IntArray], *, budget: int, seed: int
    ) -> RankedQueue:
        """The search in rounds of ``annotators`` labels, then all around the thresholds at once."""
        lines, rng = self.lines(pool), np.random.default_rng(seed)
        size = min(max(budget, 0), len(pool))
        asked: list[int] = []
        reasons: list[str] = []
        for number, allowance in search_budgets(size, lines.labels()):
            search = ThresholdSearch(
                lines.signs(number),
                budget=allowance,
                annotators=self.config.annotators,
                balanced=self.config.balanced_threshold,
                rng=rng,
            )
            while len(drawn := search.draw()):
                rows = lines.order(number)[drawn]
                targets = lines.tell(rows, oracle(lines.ids[rows]))
                search.tell(np.where(targets == lines.of[number], 1, -1).astype(np.int8))
                asked += rows.tolist()
                reasons += [self._reason(lines, number, "search")] * len(rows)
        rest = size - len(asked)
        picked = lines.targets >= 0
        # All thresholds are put before any of these labels arrives: one batch.
        for turn, number in enumerate(rng.permutation(len(lines.of)).tolist()):
            quota = rest * (turn + 1) // len(lines.of) - rest * turn // len(lines.of)
            for row in self._outwards(lines, number):
                if not quota:
                    break
                if not picked[row]:
                    picked[row] = True
                    quota -= 1
                    asked.append(row)
                    reasons.append(self._reason(lines, number, "threshold"))
        if rest:
            last = np.asarray(asked[-rest:], dtype=np.int64)
            lines.tell(last, oracle(lines.ids[last]))
        return RankedQueue(ids=lines.ids[np.asarray(asked, dtype=np.int64)], reasons=tuple(reasons))

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Around the thresholds of now and from the windows of now, in turn.

        So every head of the queue is spent half and half, whatever the budget. Around the
        thresholds the classes take turns in random order; the search gives the class with the
        fewest labels its draws first, as in ``search_budgets``.
        """
        lines = self.lines(pool)
        picked = lines.targets >= 0
        search = self._searching(lines, picked, seed)
        around = self._around(lines, picked, seed)
        asked: list[int] = []
        reasons: list[str] = []
        for turn in range(min(max(budget, 0), len(pool))):
            found = next(search, None) if turn % 2 else None
            row, why = found or next(around)
            picked[row] = True
            asked.append(row)
            reasons.append(why)
        return RankedQueue(ids=lines.ids[np.asarray(asked, dtype=np.int64)], reasons=tuple(reasons))

    def _searching(
        self, lines: ClassLines, picked: NDArray[np.bool_], seed: int
    ) -> Iterator[tuple[int, str]]:
        """First rounds of the search, without end: rows that are not picked, and why."""
        rarest = _rarest_first(lines.labels())
        draws = {number: self._window_draws(lines, number, seed) for number in rarest}
        for number in chain(*(repeat(number, _SEARCH) for number in rarest), cycle(rarest)):
            row = next((row for row in draws.get(number, ()) if not picked[row]), None)
            if row is not None:
                yield row, self._reason(lines, number, "search")
                continue
            draws.pop(number, None)
            if not draws:
                return

    def _window_draws(self, lines: ClassLines, number: int, seed: int) -> Iterator[int]:
        """The rows of a line's window, shuffled."""
        signs = lines.signs(number)
        first, last = window(signs)
        unlabeled = first + np.flatnonzero(signs[first : last + 1] == 0)
        rng = np.random.default_rng((seed, lines.of[number]))
        yield from lines.order(number)[rng.permutation(unlabeled)].tolist()

    def _around(
        self, lines: ClassLines, picked: NDArray[np.bool_], seed: int
    ) -> Iterator[tuple[int, str]]:
        """The thresholds' neighbours, classes in turn: rows that are not picked, and why."""
        turns = np.random.default_rng(seed).permutation(len(lines.of)).tolist()
        outwards = {number: self._outwards(lines, number) for number in turns}
        for number in cycle(turns):
            row = next((row for row in outwards[number] if not picked[row]), None)
            if row is None:
                return
            yield row, self._reason(lines, number, "threshold")

    def _outwards(self, lines: ClassLines, number: int) -> Iterator[int]:
        """All unlabeled rows of a line, alternately left and right of its threshold."""
        signs, order = lines.signs(number), lines.order(number)
        threshold = best_threshold(signs, balanced=self.config.balanced_threshold)
        for position in outwards(signs, threshold):
            yield int(order[position])

    def _reason(self, lines: ClassLines, number: int, why: str) -> str:
        return f"{why} {self._classes.names[lines.of[number]]}"


class ThresholdSearch:
    """Narrow down where a class ends on its line, some labels at a time.

    Args:
        signs: (N,) along the line: +1, -1, 0 unlabeled; kept, and changed by ``tell``.
        budget: labels to spend.
        annotators: labels of a round; they come together.
        balanced: as in ``threshold_scores``.
        rng: of draws and coins.

    Attributes:
        first, last: the window's ends; both belong to it.
    """

    def __init__(
        self,
        signs: Signs,
        *,
        budget: int,
        annotators: int,
        balanced: bool,
        rng: np.random.Generator,
    ) -> None:
        self._signs = signs
        self._left = budget
        self._annotators = annotators
        self._balanced = balanced
        self._rng = rng
        self._drawn: IntArray = np.empty(0, dtype=np.int64)
        self.first, self.last = window(signs)

    def draw(self) -> IntArray:
        """Positions to label together, at random from the window; none where the search ends."""
        unlabeled = self.unlabeled()
        size = min(self._annotators, self._left, len(unlabeled))
        self._drawn = self._rng.choice(unlabeled, size, replace=False)
        return self._drawn

    def tell(self, signs: Signs) -> None:
        """Take the labels of what was drawn, then shrink the window."""
        self._signs[self._drawn] = signs
        rounds = self._left // self._annotators
        self._left -= len(self._drawn)
        unlabeled = len(self.unlabeled())
        if rounds >= 2 and unlabeled:
            # Less 1e-9: in floating point 125 ** (1 - 1/3) is a little above 25.
            self._shrink(math.ceil(unlabeled ** (1 - 1 / rounds) - 1e-9))

    def unlabeled(self) -> IntArray:
        """The unlabeled positions in the window."""
        return self.first + np.flatnonzero(self._signs[self.first : self.last + 1] == 0)

    def _shrink(self, most: int) -> None:
        """Drop the end whose threshold scores lower until ``most`` unlabeled are left."""
        start = self.first
        scores = threshold_scores(self._signs, balanced=self._balanced)
        here = scores[start : self.last + 1].tolist()
        is_open = (self._signs[start : self.last + 1] == 0).tolist()
        coins = self._rng.integers(2, size=len(here)).tolist()
        left, right, unlabeled = 0, len(here) - 1, sum(is_open)
        while unlabeled > most:
            if here[left] < here[right] or (here[left] == here[right] and coins[right - left]):
                unlabeled -= is_open[left]
                left += 1
            else:
                unlabeled -= is_open[right]
                right -= 1
        self.first, self.last = start + left, start + right


def search_budgets(budget: int, labels: IntArray) -> list[tuple[int, int]]:
    """Which lines to search and with how many labels, in order: the fewest labels first.

    Half of the budget, divided evenly where that gives each line 60; else 60 for as many lines as
    it reaches, at least one. The released code gives all lines the little there is, too little for
    one round of search with many classes.

    Args:
        budget: of all labels.
        labels: (L,) labels that each line's class has.
    """
    share = budget // (2 * len(labels))
    rarest = _rarest_first(labels)
    if share < _SEARCH:
        rarest = rarest[: max(1, budget // (2 * _SEARCH))]
        share = min(_SEARCH, budget // 2)
    return [(number, share) for number in rarest]


def window(signs: Signs) -> tuple[int, int]:
    """First and last position between which the class may end.

    From the last + before the first - (0 where there is none) to the first - after the last + (the
    end where there is none).
    """
    plus, minus = np.flatnonzero(signs > 0), np.flatnonzero(signs < 0)
    before = plus[plus < minus[0]] if len(minus) else plus
    after = minus[minus > plus[-1]] if len(plus) else minus
    first = int(before[-1]) if len(before) else 0
    return first, int(after[0]) if len(after) else len(signs) - 1


def threshold_scores(signs: Signs, *, balanced: bool = False) -> IntArray:
    """(N + 1,) for each threshold r: signs before it less signs from it on.

    The number of labels less twice those on the wrong side.

    Args:
        signs: (N,) along the line.
        balanced: weigh both signs alike: a + counts as many as there are -, and the reverse.
    """
    weights = signs.astype(np.int64)
    plus, minus = int((signs > 0).sum()), int((signs < 0).sum())
    if balanced and plus and minus:
        weights *= np.where(signs > 0, minus, plus)
    before = np.concatenate([[0], np.cumsum(weights)])
    scores: IntArray = 2 * before - before[-1]
    return scores


def best_threshold(signs: Signs, *, balanced: bool = False) -> int:
    """The threshold of the highest score; of the first tied run, the middle.

    A run that begins or ends with the line gives its first: no label bounds it there, and without
    any + the line is then read from its top.
    """
    scores = threshold_scores(signs, balanced=balanced)
    first = int(scores.argmax())
    lower = np.flatnonzero(scores[first:] < scores[first])
    if not first or not len(lower):
        return first
    return first + (int(lower[0]) - 1) // 2


def outwards(signs: Signs, threshold: int) -> Iterator[int]:
    """All unlabeled positions, alternately left and right of a threshold, the nearest first."""
    unlabeled = np.flatnonzero(signs == 0)
    middle = int(np.searchsorted(unlabeled, threshold))
    left, right = unlabeled[:middle][::-1].tolist(), unlabeled[middle:].tolist()
    both = min(len(left), len(right))
    for pair in zip(left, right, strict=False):
        yield from pair
    yield from left[both:] or right[both:]


def _rarest_first(labels: IntArray) -> list[int]:
    """Lines by the labels of their class, ties by number."""
    return [int(number) for number in np.argsort(labels, kind="stable")]
