"""Which tail class is made from which majority class, and what majority terms are divided by.

Source: Sahoo et al. 2020, arXiv:2008.05524, for two classes; METHODS section 13 for more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import ConfigError, NotEnoughLabels
from models.skewness import minority_classes

_LEAST, _ENOUGH = 2, 12  # labels: refused below the first; the published sizes begin at the second
_GAMMA_CAP = 100.0


@dataclass(frozen=True)
class Partners:
    """A tail class, and the majority class that its pictures are made from."""

    minority: int
    majority: int
    gamma: float


@dataclass(frozen=True)
class Choice:
    """All pairs of a training.

    Attributes:
        partners: by ascending tail class; none where nothing can be done.
        weights: (K,) of the terms of a class: 1 for the tail, 1 / gamma for the others.
        warnings: what was left out and why, one sentence each.
    """

    partners: tuple[Partners, ...]
    weights: Tensor
    warnings: tuple[str, ...]


def choose_partners(
    counts: Tensor,
    names: Sequence[str],
    *,
    confusion: Callable[[], Tensor],
    tail: Sequence[str] = (),
    gamma: float | None = None,
) -> Choice:
    """Give each tail class the majority class that it is taken for most often.

    Args:
        counts: (K,) labels of each class.
        names: K names.
        confusion: gives (K, K) shares of the examples of a class (row) by what a network says of
            them; asked only where there is a choice.
        tail: names of the tail classes; none: the smaller of two classes, or those with a skewness
            ratio below .30.
        gamma: of all pairs; None: N_A / N_B, from 1 to 100.

    Raises:
        ConfigError: if a name is unknown, or all classes are in the tail.
        NotEnoughLabels: if one of two classes, or one that was named, has less than two labels.
    """
    numbers, warnings = [int(count) for count in counts], list[str]()
    rare = _tail(counts, names, tail)
    majority = [k for k in range(len(names)) if k not in rare and numbers[k]]
    if rare and not majority:
        raise ConfigError("all classes with labels are in the tail; name fewer of them as tail")
    must = bool(tail) or len(names) == 2
    kept = [k for k in rare if _suffices(k, numbers, names, must=must, warnings=warnings)]
    if not kept:
        why = "no pair has labels enough" if rare else "no class is rare"
        return Choice((), torch.ones(len(names)), (*warnings, f"{why}: translations are left out"))
    rows = confusion() if len(majority) > 1 else torch.zeros(len(names), len(names))
    partners = []
    for k in kept:
        a = most_confused(rows[k], majority, numbers)
        partners.append(Partners(k, a, _gamma(gamma, numbers[a], numbers[k])))
    weights = torch.ones(len(names))
    for label in majority:
        # A class in no pair counts as it would in each of them, so that majorities stay in balance.
        own = [pair for pair in partners if pair.majority == label] or partners
        shares = [1 / _gamma(gamma, numbers[label], numbers[pair.minority]) for pair in own]
        weights[label] = sum(shares) / len(shares)
    return Choice(tuple(partners), weights, tuple(warnings))


def most_confused(row: Tensor, majority: Sequence[int], counts: Sequence[int]) -> int:
    """The majority class with the largest share; of equals the one with most labels.

    Args:
        row: (K,) shares of the tail class's examples, by what a network says of them.
        majority: classes to choose from.
        counts: K labels of each class.
    """
    return max(majority, key=lambda label: (float(row[label]), counts[label], -label))


def _tail(counts: Tensor, names: Sequence[str], tail: Sequence[str]) -> list[int]:
    unknown = [name for name in tail if name not in names]
    if unknown:
        raise ConfigError(f"found tail {', '.join(unknown)}; expected some of {', '.join(names)}")
    if tail:
        return sorted({list(names).index(name) for name in tail})
    if len(names) == 2:
        return [0 if counts[0] < counts[1] else 1]
    return [k for k, is_rare in enumerate(minority_classes(counts.numpy())) if is_rare]


def _suffices(
    label: int, counts: Sequence[int], names: Sequence[str], *, must: bool, warnings: list[str]
) -> bool:
    """Whether a tail class has labels enough; what is wrong goes into ``warnings``."""
    found, only = counts[label], len(counts) == 2
    text = f"{names[label]} has {found} label(s)"
    if found < _LEAST:
        why = f"{text}; translations need {_LEAST} at least, better {_ENOUGH}: label more of it"
        if must:
            raise NotEnoughLabels(why)
        warnings.append(f"refused: {why}")
        return False
    if found < _ENOUGH:
        what = "the discriminator will learn them by heart" if only else "it gets no translations"
        warnings.append(f"{text}, less than {_ENOUGH}: {what}")
    return only or found >= _ENOUGH


def _gamma(given: float | None, majority: int, minority: int) -> float:
    if given is not None:
        return float(given)
    return min(_GAMMA_CAP, max(1.0, majority / minority))
