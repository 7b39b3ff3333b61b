"""How well a network tells the classes apart, each class counted alike.

Balanced accuracy is also called ACSA; the geometric mean is 0 as soon as one class is never found.
Source: METHODS section 7, the figures of fine-tuned models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.special import betaincinv

from models.errors import ShapeError
from models.metrics import expected_calibration_error
from models.types import FloatArray, IntArray

CONFIDENCE = 0.95  # of every interval here
BINS = 15
_LEAST_SHARE = 1e-12  # the logarithm of a share that is 0 in double precision would be infinite


class ClassFigures(BaseModel):
    """One class.

    Attributes:
        name: of the label config.
        count: N_k, its examples.
        correct: how many of them were found.
        predicted: how many examples were taken for it.
        recall: correct / count; None where there is no example.
        low, high: between which the true recall lies at 95 % (Clopper and Pearson's interval,
            exact: covers at least that often); 0 and 1 where there is no example.
        f1: of this class against all others, 0 / 0 = 0; None where there is no example.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    count: int
    correct: int
    predicted: int
    recall: float | None
    low: float
    high: float
    f1: float | None

    @property
    def worth(self) -> float | None:
        """The figure that ``low`` and ``high`` are around."""
        return self.recall


class ClassMetrics(BaseModel):
    """What a network is worth on N examples.

    Attributes:
        classes: K, in the label config's order.
        tail: indices into ``classes``.
        count: N.
        accuracy: share of the examples that were found.
        balanced_accuracy: mean recall of the classes that have examples.
        geometric_mean: of those recalls; exactly 0 where one of them is. Never above
            ``balanced_accuracy``.
        macro_f1: mean F1 of the classes that have examples.
        tail_f1: F1 of each tail class that has examples, by name.
        calibration_error: expected calibration error of the highest share, 15 bins; None where
            no probabilities were given.
        nll: mean of -ln of the true class's share; None where no probabilities were given.
        notes: what a person should know, one sentence each.
        kind: by which these are told from a detector's.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["classes"] = "classes"
    classes: tuple[ClassFigures, ...]
    tail: tuple[int, ...] = ()
    count: int
    accuracy: float
    balanced_accuracy: float
    geometric_mean: float
    macro_f1: float
    tail_f1: dict[str, float]
    calibration_error: float | None = None
    nll: float | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_confusion(
        cls, confusion: IntArray, *, class_names: Sequence[str], tail: Sequence[int] = ()
    ) -> Self:
        """From counts.

        Args:
            confusion: (K, K), row: true class, column: predicted class.
            class_names: K names.
            tail: indices of the tail classes.
        Raises: ShapeError: if shapes do not fit, a count is negative, or there is no example.
        """
        names, rare = tuple(class_names), tuple(sorted({int(k) for k in tail}))
        _check(confusion, names, rare)
        counts, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
        correct = np.diagonal(confusion)
        classes = tuple(
            _figures(name, int(counts[k]), int(correct[k]), int(predicted[k]))
            for k, name in enumerate(names)
        )
        recalls = np.array([c.recall for c in classes if c.recall is not None])
        balanced = float(recalls.mean())
        return cls(
            classes=classes,
            tail=rare,
            count=int(counts.sum()),
            accuracy=float(correct.sum() / counts.sum()),
            balanced_accuracy=balanced,
            geometric_mean=_geometric_mean(recalls, at_most=balanced),
            macro_f1=float(np.mean([c.f1 for c in classes if c.f1 is not None])),
            tail_f1={classes[k].name: f1 for k in rare if (f1 := classes[k].f1) is not None},
            notes=_absent([c.name for c in classes if not c.count]),
        )

    @classmethod
    def from_probabilities(
        cls,
        targets: IntArray,
        probabilities: FloatArray,
        *,
        class_names: Sequence[str],
        tail: Sequence[int] = (),
    ) -> Self:
        """From what was true and what was said; of equal shares the first class is taken.

        Args:
            targets: (N,) in [0, K).
            probabilities: (N, K), rows sum to 1.
            class_names: K names.
            tail: indices of the tail classes.
        Raises: ShapeError: if shapes do not fit, a share is outside [0, 1] or NaN, a target is
            out of range, or there is no example.
        """
        size, shares = len(class_names), np.asarray(probabilities, dtype=np.float64)
        if shares.shape != (len(targets), size) or not len(targets):
            raise ShapeError(
                f"found probabilities {shares.shape} for {len(targets)} targets of {size} "
                "classes; expected one row for each target, and one target at least"
            )
        if targets.min() < 0 or targets.max() >= size:
            raise ShapeError(
                f"found targets from {targets.min()} to {targets.max()}; expected [0, {size})"
            )
        if not bool(((shares >= 0) & (shares <= 1)).all()):
            raise ShapeError("found shares outside [0, 1], or NaN; expected probabilities")
        predicted = shares.argmax(axis=1)
        confusion = np.zeros((size, size), dtype=np.int64)
        np.add.at(confusion, (targets, predicted), 1)
        true = np.maximum(shares[np.arange(len(targets)), targets], _LEAST_SHARE)
        return cls.from_confusion(confusion, class_names=class_names, tail=tail).model_copy(
            update={
                "calibration_error": expected_calibration_error(
                    shares.max(axis=1), predicted == targets, bins=BINS
                ),
                "nll": float(-np.log(true).mean()),
            }
        )


def clopper_pearson(
    correct: int, count: int, *, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Between which shares the true one lies: the exact two-sided interval of a binomial share.

    Args:
        correct: of ``count``; 0 of 0 gives 0 and 1.
        count: how many were tried.
        confidence: in (0, 1).
    Source: Clopper and Pearson 1934, Biometrika 26, 404-413, by quantiles of the beta distribution.
    """
    outside = (1 - confidence) / 2
    low = float(betaincinv(correct, count - correct + 1, outside)) if correct else 0.0
    high = float(betaincinv(correct + 1, count - correct, 1 - outside)) if correct < count else 1.0
    return low, high


def _figures(name: str, count: int, correct: int, predicted: int) -> ClassFigures:
    low, high = clopper_pearson(correct, count)
    return ClassFigures(
        name=name,
        count=count,
        correct=correct,
        predicted=predicted,
        recall=correct / count if count else None,
        low=low,
        high=high,
        # 2PR / (P + R) in counts; both sums are above 0 where there is an example.
        f1=2 * correct / (count + predicted) if count else None,
    )


def _geometric_mean(recalls: NDArray[np.float64], *, at_most: float) -> float:
    if not recalls.all():
        return 0.0
    # Equal recalls would come out a rounding error above their mean.
    return min(float(np.exp(np.log(recalls).mean())), at_most)


def _absent(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    has = "has" if len(names) == 1 else "have"
    return (
        f"{', '.join(names)} {has} no example here and {'is' if has == 'has' else 'are'} "
        "left out of every mean",
    )


def _check(confusion: IntArray, names: tuple[str, ...], tail: tuple[int, ...]) -> None:
    size = len(names)
    if confusion.shape != (size, size) or (size and confusion.min() < 0) or not confusion.sum():
        raise ShapeError(
            f"found a confusion matrix {confusion.shape} for {size} classes; expected "
            f"{(size, size)} counts, one of them above 0 at least"
        )
    if tail and not 0 <= tail[0] <= tail[-1] < size:
        raise ShapeError(f"found tail classes {list(tail)}; expected numbers in [0, {size})")
