"""Far from everything common that is labeled first."""

from __future__ import annotations

import numpy as np

from models.recalibration import standardise
from models.scorers.nearest import NearestScorer, Space
from models.types import FloatArray, IntArray

_MOST = 5000  # labeled rows that are kept


class KnnDistance(NearestScorer):
    """Mean distance to the ten nearest labels outside of the tail, standardised [O].

    Of more than 5,000 such labels a random part is kept. Needs a label outside of the tail; where
    no class is in the tail, any label.

    Source: Ramaswamy et al. 2000, SIGMOD, with the mean in place of the k-th; measured in METHODS
    section 19.
    """

    neighbours = 10
    reason = "far from common ones"

    def learn(self, features: FloatArray, targets: IntArray, rng: np.random.Generator) -> Space:
        """The labels themselves."""
        if len(features) > _MOST:
            features = features[np.sort(rng.choice(len(features), _MOST, replace=False))]
        points, mean, scale = standardise(features)
        return Space(mean.astype(np.float32), (1 / scale).astype(np.float32), points.numpy())
