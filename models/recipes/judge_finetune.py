"""Whether a fine-tuned network takes the incumbent's place.

Both are measured on the same examples, which neither was fitted on. The candidate is promoted only
if balanced accuracy rises and no tail class falls beyond its interval: its recall by the candidate
must not lie below the lower end of the interval around its recall by the incumbent (95 %, Clopper
and Pearson). A tail class with fewer than five examples says nothing, so then nothing is promoted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.class_metrics import ClassFigures, ClassMetrics
from models.detection.coco import BoxMetrics
from models.errors import ShapeError
from models.types import IntArray

#: Fewest examples of each tail class that can speak for or against a candidate.
LEAST_EXAMPLES = 5
_NEEDED = f"{LEAST_EXAMPLES} are needed"
ROUNDING = 1e-12  # two sums of the same recalls may differ by so much

Compared = Literal["held-out", "cross-validation", "nothing"]


class Verdict(BaseModel):
    """What was decided, and why.

    Attributes:
        promoted: whether the candidate takes the incumbent's place.
        reasons: sentences for a person; the first one says what was decided.
        compared: what decided: examples held out, these with out-of-fold predictions of others,
            or nothing. Where nothing did, ``before`` and ``after`` are for people only.
        before: the incumbent's figures, None where nothing could be measured; of a detector these
            are COCO's.
        after: the candidate's on the same examples.
        held_out: held-out examples (of a detector: boxes) that the incumbent's network was not
            trained on.
        held_out_by_class: how many of them each class has, by name.
    """

    model_config = ConfigDict(frozen=True)

    promoted: bool
    reasons: tuple[str, ...]
    compared: Compared
    before: ClassMetrics | BoxMetrics | None = None
    after: ClassMetrics | BoxMetrics | None = None
    held_out: int = 0
    held_out_by_class: dict[str, int] = {}


def too_few(
    counts: IntArray, *, class_names: Sequence[str], tail: Sequence[int]
) -> tuple[str, ...]:
    """Which tail classes these examples say nothing of, one sentence each; empty if none.

    Args:
        counts: (K,) examples of each class.
        class_names: K names.
        tail: indices of the tail classes; where there are none, all examples together must do.
    """
    if not len(tail):
        count = int(counts.sum())
        if count >= LEAST_EXAMPLES:
            return ()
        return (f"found {_examples(count)} to compare on, {_NEEDED}",)
    return tuple(
        f"{class_names[k]} has {_examples(int(counts[k]))} to compare on, {_NEEDED}"
        for k in sorted({int(k) for k in tail})
        if counts[k] < LEAST_EXAMPLES
    )


def judge_finetune(before: ClassMetrics, after: ClassMetrics, *, compared: Compared) -> Verdict:
    """Compare two networks by their figures on the same examples.

    Args:
        before: of the incumbent.
        after: of the candidate.
        compared: what the examples are.
    Returns: the verdict, without the numbers of held-out examples.
    Raises: ShapeError: if the figures are of other classes or examples.
    """
    if [(c.name, c.count) for c in before.classes] != [(c.name, c.count) for c in after.classes]:
        raise ShapeError("found figures of different examples; expected both on the same ones")
    if before.tail != after.tail:
        raise ShapeError(f"found tail classes {before.tail} and {after.tail}; expected the same")
    names = [c.name for c in before.classes]
    counts = np.array([c.count for c in before.classes])
    few = too_few(counts, class_names=names, tail=before.tail)
    pairs = [(before.classes[k], after.classes[k]) for k in before.tail]
    falls = tuple(_fall(old, new) for old, new in pairs if _falls_beyond(old, new))
    rises = after.balanced_accuracy > before.balanced_accuracy + ROUNDING
    against = few + falls + (() if rises else (_balanced(before, after),))
    if against:
        reasons = (f"rejected: {against[0]}", *against[1:])
    else:
        told = tuple(_told(old, new) for old, new in pairs)
        reasons = (f"promoted: {_balanced(before, after)}", *told)
    return Verdict(
        promoted=not against,
        reasons=reasons + before.notes,
        compared="nothing" if few else compared,
        before=before,
        after=after,
    )


def refuse(
    reasons: Sequence[str],
    *,
    before: ClassMetrics | BoxMetrics | None = None,
    after: ClassMetrics | BoxMetrics | None = None,
) -> Verdict:
    """A candidate that cannot be judged.

    Args:
        reasons: why, one sentence each, at least one.
        before: figures of the incumbent for people, where something could be measured.
        after: of the candidate, on the same examples.
    """
    first, *others = reasons
    return Verdict(
        promoted=False,
        reasons=(f"rejected: {first}", *others),
        compared="nothing",
        before=before,
        after=after,
    )


def _falls_beyond(old: ClassFigures, new: ClassFigures) -> bool:
    return old.count > 0 and new.correct / new.count < old.low


def _fall(old: ClassFigures, new: ClassFigures) -> str:
    return f"{_told(old, new)[:-1]}, interval {two_places(old.low)} to {two_places(old.high)})"


def _told(old: ClassFigures, new: ClassFigures) -> str:
    was, now = old.recall or 0.0, new.recall or 0.0
    return f"recall of {old.name} {moved(was, now)} ({_examples(old.count)})"


def _balanced(before: ClassMetrics, after: ClassMetrics) -> str:
    words = moved(before.balanced_accuracy, after.balanced_accuracy)
    return f"balanced accuracy {words} ({_examples(before.count)})"


def moved(was: float, now: float) -> str:
    """How a share went, in words, with as many places as the difference takes."""
    if abs(now - was) <= ROUNDING:
        return f"stayed at {two_places(now)}"
    # Two places may hide the difference that decided.
    places = next(n for n in range(2, 13) if n == 12 or f"{was:.{n}f}" != f"{now:.{n}f}")
    verb = "rose" if now > was else "fell"
    return f"{verb} from {two_places(was, places)} to {two_places(now, places)}"


def two_places(share: float, places: int = 2) -> str:
    """A share as .85."""
    return f"{share:.{places}f}".removeprefix("0") if share < 1 else f"{share:.{places}f}"


def _examples(count: int) -> str:
    return f"{count} example" if count == 1 else f"{count} examples"
