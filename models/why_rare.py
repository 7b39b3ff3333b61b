"""Why an example is taken for rare: what it is like, what the heads say, what it holds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.streaming import batch_rows, feature_batches
from models.types import Examples, IntArray

#: How many labels are shown beside an example.
NEAREST = 3
_EQUAL = 1e-12  # of squared lengths: rounding of a product in double precision
_YARDSTICK = 200  # labels of a class that tell how far apart two of them usually are


@dataclass(frozen=True)
class Near:
    """A labeled example of a tail class that is near.

    Attributes:
        id: its task.
        target: its class.
        distance: between features, as a multiple of what two labels of its class usually are
            apart; None where the class has one label.
    """

    id: int
    target: int
    distance: float | None


@dataclass(frozen=True)
class Detected:
    """One detection of a picture.

    Attributes:
        target: its likeliest class; confidence: the detector's, in [0, 1].
        corners: x0, y0, x1, y1 as shares of the picture.
        rarity: likelihood that it is of a tail class, as it was fitted; None where nothing tells.
        decides: the picture stands where it does for this one.
    """

    target: int
    confidence: float
    corners: tuple[float, float, float, float]
    rarity: float | None = None
    decides: bool = False


@dataclass(frozen=True)
class WhyRare:
    """What can be said of one example.

    Attributes:
        tail_mass: the tail's share of the original head's softmax; of a picture with boxes the
            largest probability that the detector gives a tail class. None without either.
        error: the autoencoder's reconstruction error, >= 0; of boxes that of the one that
            decides. None where none was fitted.
        error_above: how many standard deviations it lies above the mean over the pool.
        nearest: labels of tail classes, the nearest first, each task once.
        detections: of a picture with boxes, the surest first.
    """

    tail_mass: float | None = None
    error: float | None = None
    error_above: float | None = None
    nearest: tuple[Near, ...] = ()
    detections: tuple[Detected, ...] = ()


def nearest_known(
    examples: Examples, known: Examples, targets: IntArray, *, tasks: IntArray, count: int
) -> list[tuple[Near, ...]]:
    """For each example the nearest labels, of each task its nearest.

    Args:
        examples: N of them.
        known: M labeled ones; features of the same width.
        targets: (M,) classes.
        tasks: (M,) whose they are; several detections may be of one picture.
        count: how many of each.
    """
    if not len(known) or not len(examples):
        return [()] * len(examples)
    usual = {k: _usual(known.take(np.flatnonzero(targets == k))) for k in set(targets.tolist())}
    distances = _distances(examples, known)
    found = []
    for row in distances:
        near: dict[int, Near] = {}
        for at in np.argsort(row, kind="stable").tolist():
            task, target = int(tasks[at]), int(targets[at])
            apart = usual[target]
            near.setdefault(task, Near(task, target, float(row[at]) / apart if apart else None))
            if len(near) == count:
                break
        found.append(tuple(near.values()))
    return found


def _usual(some: Examples) -> float:
    """Median distance of two labels of a class; 0 where there is one, or all are alike."""
    few = some.take(np.linspace(0, len(some) - 1, min(len(some), _YARDSTICK)).astype(np.int64))
    between = _distances(few, few)[np.triu_indices(len(few), 1)]
    return float(np.median(between)) if len(between) else 0.0


def _distances(examples: Examples, known: Examples) -> NDArray[np.float64]:
    """(N, M) distances of features."""
    theirs = torch.from_numpy(known.dense().features.astype(np.float64))
    lengths = theirs.square().sum(dim=1)
    found: NDArray[np.float64] = np.empty((len(examples), len(known)))
    for start, features in feature_batches(examples, batch_rows(theirs.shape[1], len(known))):
        ours = features.double()
        both = ours.square().sum(dim=1, keepdim=True) + lengths
        squares = torch.addmm(both, ours, theirs.T, alpha=-2)
        # A product leaves something of two that are equal.
        squares[squares < _EQUAL * both] = 0
        found[start : start + len(ours)] = squares.sqrt().numpy()
    return found
