"""Which classes are rare, and why that list does not follow every label.

Mining raises the counts of the tail by design; a tail recomputed from all labels empties after
20 to 30 labels and the queue stops itself. So a class enters by labels that our queue did not
choose, or by name, and leaves by a person's wish or by its quota only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import ShapeError


def skewness_ratios(counts: ArrayLike) -> NDArray[np.float64]:
    """Labels of each class over the mean of all declared classes; 1.0 is exactly average.

    Args:
        counts: (K,) labels of each declared class, absent classes included as 0.
    Returns: (K,), summing to K.    Raises: ShapeError: without classes or without labels.
    Source: Singh et al. 2021, arXiv:2112.07835.
    """
    values = np.asarray(counts, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all() or (values < 0).any():
        raise ShapeError(f"found counts {values!r}; expected one number >= 0 for each class")
    total = values.sum()
    if total == 0:
        raise ShapeError("no label at all: skewness is undefined; label some examples first")
    ratios: NDArray[np.float64] = values * (len(values) / total)
    return ratios


def minority_classes(counts: ArrayLike, threshold: float = 0.30) -> NDArray[np.bool_]:
    """Mask of the classes whose skewness ratio is strictly below ``threshold``.

    A class without any label has ratio 0 and is in the mask, though nothing can learn it.
    """
    return skewness_ratios(counts) < threshold


def class_priors(counts: Mapping[str, int], names: Sequence[str]) -> tuple[float, ...] | None:
    """Share of each class among labels that say something of prevalence, one added to each.

    Args:
        counts: labels by class that our queue did not choose.
        names: the declared classes.
    Returns: (K,) summing to 1; None where there is no such label.
    """
    if not any(counts.get(name, 0) for name in names):
        return None
    total = sum(counts.get(name, 0) + 1 for name in names)
    return tuple((counts.get(name, 0) + 1) / total for name in names)


@dataclass(frozen=True)
class TailDecision:
    """The tail after looking at the labels again.

    Attributes:
        tail: names of the tail classes, in the order of the label config.
        entered: names that were not in the tail before.
        left: name -> why it is not in the tail any more.
        unlearnable: tail classes without a single label.
        notes: what a person should know, one sentence each.
    """

    tail: tuple[str, ...]
    entered: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    unlearnable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def update_tail(
    current: Sequence[str],
    counts_unbiased: Mapping[str, int],
    class_names: Sequence[str],
    *,
    named: Sequence[str] = (),
    removed: Sequence[str] = (),
    quotas: Mapping[str, int] | int | None = None,
    counts_all: Mapping[str, int],
    min_labels: int | None = None,
    threshold: float = 0.30,
) -> TailDecision:
    """Let classes enter or leave the sticky tail.

    Args:
        current: the tail so far.
        counts_unbiased: labels by class that our queue did not choose.
        class_names: the declared classes, in the label config's order.
        named: classes a person put into the tail.
        removed: classes a person took out; stronger than ``named``.
        quotas: labels (of all) after which a class is no longer mined; one for all or by name.
        counts_all: labels by class, however they were chosen.
        min_labels: unbiased labels needed before counts decide; None is min(10 K, 500).
        threshold: skewness ratio below which a class enters.
    """
    names = tuple(dict.fromkeys(class_names))
    unbiased = np.asarray([counts_unbiased.get(name, 0) for name in names], dtype=np.float64)
    needed = min(10 * len(names), 500) if min_labels is None else min_labels
    notes: list[str] = []
    rare: set[str] = set()
    if unbiased.sum() >= max(needed, 1):
        mask = minority_classes(unbiased, threshold)
        rare = {name for name, is_rare in zip(names, mask, strict=True) if is_rare}
    elif not current and not named:
        notes.append(
            f"{int(unbiased.sum())} of {needed} labels are there that tell which classes are rare; "
            "label more, or name the rare classes in RAREFIRST_TAIL_CLASSES"
        )
    unknown = [name for name in named if name not in names]
    if unknown:
        notes.append(f"named as tail but not in the label config: {', '.join(unknown)}")

    tail: list[str] = []
    left: dict[str, str] = {
        name: "no longer in the label config" for name in current if name not in names
    }
    for name in names:
        reason = _why_out(name, removed, quotas, counts_all)
        if reason is None and (name in current or name in named or name in rare):
            tail.append(name)
        elif reason is not None and name in current:
            left[name] = reason
    unlearnable = tuple(name for name in tail if not counts_all.get(name, 0))
    notes += [f"{name} left the tail: {reason}" for name, reason in left.items()]
    notes += [
        f"no label of {name} yet: nothing can learn it; label one by hand to have it mined"
        for name in unlearnable
    ]
    return TailDecision(
        tail=tuple(tail),
        entered=tuple(name for name in tail if name not in current),
        left=tuple(left.items()),
        unlearnable=unlearnable,
        notes=tuple(notes),
    )


def _why_out(
    name: str,
    removed: Sequence[str],
    quotas: Mapping[str, int] | int | None,
    counts_all: Mapping[str, int],
) -> str | None:
    if name in removed:
        return "taken out by a person"
    quota = quotas if isinstance(quotas, int) or quotas is None else quotas.get(name)
    found = counts_all.get(name, 0)
    if quota is not None and found >= quota:
        return f"its quota is met ({found} of {quota} labels)"
    return None
