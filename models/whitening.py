"""Coordinates in which every class has unit spread, along the directions in which a pool varies.

Within a class the features are taken as Gaussian, with one covariance for all classes. Where that
covariance is unit, the pool varies more along the directions that tell its classes apart, named or
not: the unlabeled pool says where classes lie, whatever has a label.
Source: linear discriminant analysis (Fisher 1936) and its probabilistic form (Ioffe 2006), whose
covariance between classes is here what the pool's has over the one within.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.streaming import batch_rows, feature_batches, refuse_infinite
from models.types import Examples, FloatArray, IntArray, numbered

SHRINK = 0.3  # of the covariance within classes to a sphere, at least
FLOOR = 0.03  # variance of class means along a direction in which the pool shows nothing
MARGIN = 1.1  # by which a direction must vary more than ordinary ones to show something
SHOWING = 0.08  # share of the directions that may show something
_SOME = 1000  # labels whose mean is near enough to the middle for what rounding does
_NOTHING = 1e-5  # of the pool's variance: rounding


@dataclass(frozen=True)
class Whitened:
    """An affine map of features, and what the pool shows along each of its coordinates.

    Attributes:
        middle: (D,) the pool's mean.
        axes: (D, D) directions: an example lies at ``(features - middle) @ axes``; along the first
            the pool varies most.
        variance: (D,) of the pool along each, where that of a class is 1.
        shown: (D,) the part of it that ordinary directions do not have, >= 0.
        spread: variance of features within a class, summed over all D; 0 where no class has two
            labels that differ.
        known: how well the labels say how a class spreads, in [0, 1]: 1 where they are many more
            than D, 0 where a sphere stands for what they do not say.
    """

    middle: NDArray[np.float64]
    axes: NDArray[np.float64]
    variance: NDArray[np.float64]
    shown: NDArray[np.float64]
    spread: float
    known: float

    @classmethod
    def fit(
        cls, labeled: FloatArray, targets: IntArray, pool: Examples, *, num_classes: int
    ) -> Self:
        """Look at the labels for the spread within classes, at the pool for the one between.

        Args:
            labeled: (L, D) features, L > 0.
            targets: (L,) in [0, K).
            pool: unlabeled examples; where they are fewer than two the labels stand in for them.
            num_classes: K.

        Raises: ShapeError: if features of the pool are not finite.
        """
        known = numbered(labeled)
        origin = torch.from_numpy(labeled[:_SOME].astype(np.float32).mean(axis=0))
        within = _within(known, targets, num_classes, origin)
        middle, cover = _moments(pool if len(pool) > 1 else known, origin)
        width, all_in_all = len(within), float(cover.trace())
        trace, share = float(within.trace()), max(SHRINK, width / (width + len(labeled)))
        spread = trace if trace > _NOTHING * all_in_all else 0.0
        if not spread:
            # No class has two labels that differ: a sphere is all that is known.
            trace, share = all_in_all or float(width), 1.0
        within.mul_(1 - share).diagonal().add_(share * trace / width)
        root = torch.linalg.solve_triangular(
            torch.linalg.cholesky(within), torch.eye(width, dtype=torch.float64), upper=False
        )
        values, vectors = torch.linalg.eigh(root @ cover @ root.T)
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        ordinary = min(max(math.ceil(SHOWING * width), 2 * num_classes), width // 2)
        shown = (values - MARGIN * values[ordinary]).clamp_min(0)
        return cls(
            middle=middle.numpy(),
            axes=(root.T @ vectors).numpy(),
            variance=values.numpy(),
            shown=shown.numpy(),
            spread=spread,
            known=(1 - share) / (1 - SHRINK),
        )

    @property
    def between(self) -> NDArray[np.float64]:
        """(D,) prior variance of a class mean along each coordinate, above 0."""
        return self.shown + FLOOR

    def at(self, features: FloatArray) -> NDArray[np.float32]:
        """(N, D) features to (N, D) coordinates, in single precision."""
        out = np.empty((len(features), self.axes.shape[1]), dtype=np.float32)
        places = torch.from_numpy(out)
        axes = torch.from_numpy(self.axes).float()
        shift = torch.from_numpy(self.middle @ self.axes).float()
        for start, batch in feature_batches(numbered(features), batch_rows(len(axes))):
            here = places[start : start + len(batch)]
            torch.mm(batch, axes, out=here)
            here -= shift
        return out

    def on_features(
        self, weight: FloatArray, bias: FloatArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(M, K) weight and (K,) bias on the first M coordinates, as (D, K), (K,) on features."""
        turned = self.axes[:, : len(weight)] @ np.asarray(weight, dtype=np.float64)
        return turned, np.asarray(bias, dtype=np.float64) - self.middle @ turned


def _within(labeled: Examples, targets: IntArray, num_classes: int, origin: Tensor) -> Tensor:
    """(D, D) covariance of labels about the means of their classes."""
    width = labeled.features.shape[1]
    sums = torch.zeros((num_classes, width), dtype=torch.float64)
    products = torch.zeros((width, width), dtype=torch.float64)
    which = torch.from_numpy(np.ascontiguousarray(targets))
    for start, batch in feature_batches(labeled, batch_rows(width)):
        batch -= origin
        sums.index_add_(0, which[start : start + len(batch)], batch.double())
        products += (batch.T @ batch).double()
    counts = torch.bincount(which, minlength=num_classes).double()
    products -= (sums / counts.clamp_min(1)[:, None]).T @ sums
    return products / len(labeled)


def _moments(examples: Examples, origin: Tensor) -> tuple[Tensor, Tensor]:
    """(D,) mean and (D, D) covariance of all rows, batch by batch.

    Args:
        examples: at least one.
        origin: (D,) somewhere among them, so that their squares are no larger than they must be.

    Raises: ShapeError: if features are not finite.
    """
    width = examples.features.shape[1]
    sums = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros((width, width), dtype=torch.float64)
    for start, batch in feature_batches(examples, batch_rows(width)):
        batch -= origin
        total = batch.sum(dim=0)
        if not bool(torch.isfinite(total).all()):
            refuse_infinite(examples.ids[start : start + len(batch)], batch)
        sums += total
        products += (batch.T @ batch).double()
    mean = sums / len(examples)
    return mean + origin, products / len(examples) - torch.outer(mean, mean)
