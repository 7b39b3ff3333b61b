"""Unlike every common class, by their means and how they spread."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.recalibration import standardise
from models.scorers.nearest import NearestScorer, Space
from models.types import FloatArray, IntArray

_ROWS = 2048


class Mahalanobis(NearestScorer):
    """Mahalanobis distance to the nearest mean of a class outside of the tail.

    The classes have means of their own and one covariance, within classes, of standardised
    features, shrunk towards a multiple of the identity by as much as OAS says. Needs a label
    outside of the tail; where no class is in the tail, any label.

    Source: Lee et al. 2018, arXiv:1807.03888, eq. 1 and 2; the shrinkage: Chen et al. 2010,
    arXiv:0907.4698, eq. 23.
    """

    neighbours = 1
    reason = "unlike common classes"

    def learn(self, features: FloatArray, targets: IntArray, rng: np.random.Generator) -> Space:
        """Whitened by the covariance, the distance is a plain one."""
        points, mean, scale = standardise(features)
        known, which = np.unique(targets, return_inverse=True)
        means = torch.zeros((len(known), points.shape[1]))
        means.index_add_(0, torch.from_numpy(which), points)
        means /= torch.from_numpy(np.bincount(which)).float()[:, None]
        within = points - means[torch.from_numpy(which)]
        # In double precision, a part at a time: rounding must not make it indefinite.
        products = torch.zeros((points.shape[1], points.shape[1]), dtype=torch.float64)
        for part in torch.split(within, _ROWS):
            products.addmm_(part.double().T, part.double())
        covariance = oas(products / len(within), len(within))
        # The inverse's root: distances to means in the space that it leads to are what is wanted.
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
        root = torch.linalg.cholesky(inverse)
        onto = root / torch.from_numpy(scale)[:, None]
        return Space(
            mean.astype(np.float32),
            onto.float().numpy(),
            (means.double() @ root).float().numpy(),
        )


def oas(covariance: Tensor, count: int) -> Tensor:
    """(D, D) sample covariance of ``count`` rows, shrunk by the oracle approximation.

    Where all rows are alike it is the identity: nothing is known of how they spread.
    """
    width = len(covariance)
    trace, squares = float(torch.trace(covariance)), float((covariance**2).sum())
    if trace <= 0:
        return torch.eye(width, dtype=covariance.dtype)
    # (1 - 2/D) tr(S^2) + tr(S)^2 over (n + 1 - 2/D) (tr(S^2) - tr(S)^2 / D)
    above = (1 - 2 / width) * squares + trace**2
    below = (count + 1 - 2 / width) * (squares - trace**2 / width)
    share = 1.0 if below <= 0 else min(1.0, above / below)
    # A floor keeps what is constant, or computed in single precision, invertible.
    share = max(share, 1e-6)
    eye = torch.eye(width, dtype=covariance.dtype)
    return (1 - share) * covariance + share * trace / width * eye
