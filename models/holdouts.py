"""Hold-outs of labels that imitate the state before some of them came.

Mined labels over-represent the tail, and those of the head that mining chose are hard ones. So the
hidden labels are weighed to a pool in which the tail is as rare as the priors say: a hidden rare
one counts once, a hidden one of the head for as many tasks as it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.config import BacktestConfig
from models.errors import NoTailClass, NotEnoughLabels
from models.types import ClassSpace, FloatArray, IntArray

BoolArray = NDArray[np.bool_]

_ENOUGH_FAIR = 30  # head labels nobody mined, from which those alone stand for the head
_LEAST_HEAD = 20
_MOST_TASKS = 10  # that a hidden label stands for: the first one would decide everything beyond
_WORTH_SAYING = 1.1
_NAMED = 5


@dataclass(frozen=True)
class Provenance:
    """How labels came to be, and what has seen them.

    Attributes:
        unbiased: (N,) which labels our queue did not choose; None: nobody knows.
        trained_on: how many of them the frozen model was trained on.
    """

    unbiased: BoolArray | None = None
    trained_on: int = 0


#: Nothing is known of the labels.
UNKNOWN = Provenance()


@dataclass(frozen=True)
class HoldOut:
    """Labels that are known, and those that are hidden.

    Attributes:
        known: rows that are learned from.
        hidden: (H,) rows that are ranked.
        weights: (H,) how many tasks of the imitated pool each of them stands for.
    """

    known: IntArray
    hidden: IntArray
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class _Share:
    """How the labels of one class are divided, in rows of the labels.

    Attributes:
        counted: rows of which ``hide`` are ranked, the rest known; of them ``use`` take part.
        mined: further rows of the head, chosen by our queue: as many of them are left out as of
            the others are hidden, none is ranked; ``keep`` are known.
        weight: of each hidden row.
    """

    counted: IntArray
    use: int
    hide: int
    mined: IntArray
    keep: int
    weight: float


class HoldOuts:
    """How the labels of a project are hidden; ``draw`` hides other ones of the same number.

    Args:
        targets: (N,) class of each label.
        classes: names, tail and priors; without priors the labels' own shares are taken.
        unbiased: (N,) which labels our queue did not choose; None: nobody knows.
        config: shares and limits.

    Attributes:
        tail: tail classes of which labels are hidden.
        rare: rare ones among the hidden labels; rare_by_class: (K,) of each tail class.
        pool: tasks of the imitated pool.
        hidden_to_known: tail labels hidden for each that is known.
        mined: tail labels that our queue chose.
        notes: what a person should know of the imitation, one sentence each.

    Raises:
        NoTailClass: if no class is in the tail, or all are.
        NotEnoughLabels: with how many there are and how many are needed.
    """

    def __init__(
        self,
        targets: IntArray,
        classes: ClassSpace,
        unbiased: BoolArray | None,
        config: BacktestConfig,
    ) -> None:
        counts = np.bincount(targets, minlength=classes.size)
        is_tail = np.isin(np.arange(classes.size), classes.tail)
        _check(counts, is_tail, classes, config)
        fair = np.ones(len(targets), dtype=bool) if unbiased is None else unbiased
        notes = _about(counts, classes)
        by_chance_only = int(fair[~is_tail[targets]].sum()) >= _ENOUGH_FAIR
        if not by_chance_only:
            fair = np.ones(len(targets), dtype=bool)
            if unbiased is not None and not unbiased.all():
                notes.append(
                    f"fewer than {_ENOUGH_FAIR} labels of common classes are there that our queue "
                    "did not choose: those that it chose stand for the pool too, which are hard "
                    "ones, so fewer rare ones are found here than in truth"
                )
        use = _at_most(counts, is_tail, config.max_labels)
        self._shares: dict[int, _Share] = {}
        for k in np.flatnonzero(counts).tolist():
            rows = np.flatnonzero(targets == k)
            share = config.hidden_tail if is_tail[k] else config.hidden_head
            split = fair[rows] | is_tail[k]
            self._shares[k] = _divide(rows[split], rows[~split], int(use[k]), share)
        hide = np.zeros(classes.size, dtype=np.int64)
        hide[list(self._shares)] = [share.hide for share in self._shares.values()]
        self.tail = tuple(int(k) for k in classes.tail if hide[k])
        self.rare_by_class = np.where(is_tail, hide, 0)
        self.rare = int(self.rare_by_class.sum())
        self._weigh(hide, is_tail, _priors(classes, counts, notes), notes)
        known = sum(self._shares[k].use - self._shares[k].hide for k in self.tail)
        self.hidden_to_known = self.rare / known
        self.mined = 0 if unbiased is None else int((~unbiased & is_tail[targets]).sum())
        self.notes = tuple(notes)

    def draw(self, rng: np.random.Generator) -> HoldOut:
        """Hide some, stratified by class."""
        known: list[IntArray] = []
        hidden: list[IntArray] = []
        weights: list[NDArray[np.float64]] = []
        for share in self._shares.values():
            counted = rng.permutation(share.counted)[: share.use]
            hidden.append(counted[: share.hide])
            known += [counted[share.hide :], rng.permutation(share.mined)[: share.keep]]
            weights.append(np.full(share.hide, share.weight))
        return HoldOut(np.concatenate(known), np.concatenate(hidden), np.concatenate(weights))

    def _weigh(
        self, hide: IntArray, is_tail: BoolArray, priors: FloatArray, notes: list[str]
    ) -> None:
        """Let the head weigh as much against the hidden rare ones as the priors say."""
        rare, there = priors[is_tail & (hide > 0)].sum(), ~is_tail & (hide > 0)
        common = self.rare * float(priors[~is_tail].sum() / rare)
        most = _MOST_TASKS * int(hide[there].sum())
        if common > _WORTH_SAYING * most:
            notes.append(
                f"{self.rare / (self.rare + common):.2%} of what is not labeled are rare; here "
                f"{self.rare / (self.rare + most):.2%} are, since {int(hide[there].sum())} hidden "
                "labels of common classes cannot stand for more: in truth fewer are found, by "
                "every scorer"
            )
        self.pool = self.rare + min(common, most)
        spread = (self.pool - self.rare) * priors / priors[there].sum() / np.maximum(hide, 1)
        for k in np.flatnonzero(there).tolist():
            self._shares[k] = replace(self._shares[k], weight=float(spread[k]))


def _check(
    counts: IntArray, is_tail: BoolArray, classes: ClassSpace, config: BacktestConfig
) -> None:
    if not is_tail.any():
        raise NoTailClass(
            "no class is in the tail, so there is nothing rare to find again; name rare classes in "
            "RAREFIRST_TAIL_CLASSES, or label until one is rare"
        )
    if is_tail.all():
        raise NoTailClass(
            "every class is in the tail; expected a common one at least: take classes out with "
            "RAREFIRST_NOT_TAIL_CLASSES"
        )
    several = is_tail & (counts >= 2)
    found = int(counts[several].sum())
    if found < config.least_tail:
        named = ", ".join(f"{classes.names[k]} {counts[k]}" for k in classes.tail[:_NAMED])
        raise NotEnoughLabels(
            f"found {found} labels of tail classes that have two at least ({named}); expected "
            f"{config.least_tail} at least, to hide some and learn from the others: label "
            f"{config.least_tail - found} more"
        )
    head = int(counts[~is_tail].sum())
    if head < _LEAST_HEAD:
        raise NotEnoughLabels(
            f"found {head} labels of common classes; expected {_LEAST_HEAD} at least, among which "
            f"the rare ones are to be found: label {_LEAST_HEAD - head} more"
        )
    if not (counts[~is_tail] >= 2).any():
        raise NotEnoughLabels("found no common class with two labels; expected one at least")


def _about(counts: IntArray, classes: ClassSpace) -> list[str]:
    """Tail classes of which nothing can be said."""
    notes = []
    for few, what in ((1, "one label, which is learned from"), (0, "no label")):
        named = [classes.names[k] for k in classes.tail if counts[k] == few]
        if named:
            shown = ", ".join(named[:_NAMED]) + (" and others" if len(named) > _NAMED else "")
            has = "has" if len(named) == 1 else "have"
            notes.append(f"{shown} {has} {what}: how soon it is found cannot be told")
    return notes


def _priors(classes: ClassSpace, counts: IntArray, notes: list[str]) -> NDArray[np.float64]:
    if classes.class_priors is None:
        notes.append(
            "no label says how rare the classes are (our queue chose them all): the labels' own "
            "shares are taken, so random order finds more here than in truth"
        )
        shares: NDArray[np.float64] = (counts + 1) / (counts + 1).sum()
        return shares
    return np.maximum(np.asarray(classes.class_priors, dtype=np.float64), 1e-9)


def _at_most(counts: IntArray, is_tail: BoolArray, limit: int) -> IntArray:
    """(K,) labels of each class that take part: the tail has precedence up to half of them."""
    use = counts.astype(np.int64)
    for part in (is_tail, ~is_tail):
        room = limit // 2 if part is is_tail else limit - int(use[is_tail].sum())
        total = int(counts[part].sum())
        if total > room:
            scaled = np.maximum(counts * room // total, np.minimum(counts, 2))
            use = np.where(part, scaled, use)
    return use


def _divide(counted: IntArray, mined: IntArray, use: int, share: float) -> _Share:
    """Divide the labels of one class, of which at least one stays known."""
    total = len(counted) + len(mined)
    taken = len(counted) * use // total
    taken = min(max(taken, 1), len(counted)) if len(counted) else 0
    hide = min(max(round(share * taken), 1), use - 1, taken) if taken and use > 1 else 0
    left = use - taken
    keep = max(left - round(share * left), 1 - (taken - hide)) if left else 0
    return _Share(counted, taken, hide, mined, keep, 1.0)
