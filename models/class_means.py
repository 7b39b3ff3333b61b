"""Class means from few labels and the whole pool, and what the pool holds beside them.

A mean of a few labels is believed along the directions in which the pool's classes differ, and
drawn towards what was expected along all others. Of a tail class it is expected to lie where the
pool's mean says that something is left when all common classes are subtracted: so even a class
without a label has a place.
Source: posterior means of probabilistic linear discriminant analysis (Ioffe 2006, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.class_shares import class_shares
from models.recalibration import RecalibrationLayer
from models.types import Examples, FloatArray, IntArray
from models.whitening import Whitened

#: What logits of this file times this are about as sure as they are right (measured).
TEMPER = 0.25
_NONE = 1e-3  # labels of a class without any, for a division


@dataclass(frozen=True)
class ClassMeans:
    """Where the classes lie in whitened coordinates.

    Attributes:
        means: (K, D) posterior means; of a class outside of the tail without labels, zeros.
        counts: (K,) labels of each.
        expected: (D,) where a tail class is expected; zeros where nothing is known of that.
    """

    means: NDArray[np.float64]
    counts: IntArray
    expected: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        places: FloatArray,
        targets: IntArray,
        space: Whitened,
        *,
        num_classes: int,
        tail: tuple[int, ...],
        expected: Callable[[NDArray[np.float64], IntArray], NDArray[np.float64]],
    ) -> Self:
        """Means of the labels, drawn to what is expected.

        Args:
            places: (L, D) coordinates of the labels.
            targets: (L,) their classes in [0, K).
            space: whose coordinates these are.
            num_classes: K.
            tail: indices of the tail classes.
            expected: from (C, D) means and (C,) labels of the common classes to the (D,) place of
                a tail class; see ``remainder``.
        """
        counts = np.bincount(targets, minlength=num_classes)
        plain = np.zeros((num_classes, places.shape[1]))
        for k in np.flatnonzero(counts):
            plain[k] = places[targets == k].mean(axis=0, dtype=np.float64)
        belief = trust(space, counts)
        means, rare = plain * belief, list(tail)
        common = np.setdiff1d(np.flatnonzero(counts), rare)
        place = expected(means[common], counts[common])
        means[rare] = place + belief[rare] * (plain[rare] - place)
        return cls(means, counts, place)

    def layer(self, classes: IntArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(D, C) weight and (C,) bias of the log-densities of some classes, less what all share."""
        chosen = self.means[classes]
        return chosen.T, -0.5 * (chosen**2).sum(axis=1)


def trust(space: Whitened, counts: IntArray) -> NDArray[np.float64]:
    """(K, D) how far a mean of so many labels is believed along each coordinate, in [0, 1]."""
    between = space.between
    return between / (between + 1 / np.maximum(counts, _NONE)[:, None])


def remainder(
    means: NDArray[np.float64], counts: IntArray, pool: Examples, space: Whitened
) -> NDArray[np.float64]:
    """(D,) where the rest of the pool lies, at the distance that a class usually has.

    The pool's mean is the origin and the weighted sum of its classes' means. Less those that are
    known it is the share of the others times their mean: a direction.

    Args:
        means: (C, D) of the common classes.
        counts: (C,) their labels, above 0.
        pool: some of it, to see how much of it each common class is.
        space: whose coordinates these are.
    Returns: zeros where there is no common class or no pool.
    """
    nothing = np.zeros(space.axes.shape[1])
    if not len(means) or not len(pool):
        return nothing
    layer = RecalibrationLayer(*space.on_features(means.T, -0.5 * (means**2).sum(axis=1)))
    logits = TEMPER * layer.logits_of(pool)
    rest = -(class_shares(logits, counts / counts.sum()) @ means)
    # Known from so many rows, it is as uncertain as a mean of that many labels.
    rest *= trust(space, np.asarray([len(pool)]))[0]
    length = float(np.linalg.norm(rest))
    if length <= 0:
        return nothing
    usual = float(np.median(np.linalg.norm(means, axis=1)))
    scaled: NDArray[np.float64] = rest * (usual / length)
    return scaled
