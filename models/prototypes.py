"""The one-class part: an autoencoder in closed form that can only draw common classes.

Its code is what the re-calibration layer says of an example: how likely each common class is. Its
decoder puts the classes' means together in these shares. What is of no common class is drawn as
one, and the error shows it. Features instead of logits, since logits of common classes keep
nothing of a class that they were never asked about; only along directions in which the pool shows
more than one class' spread, since along the others every example errs alike.
Source: the autoencoder of Singh et al. 2021, arXiv:2112.07835, section 3, on other grounds
(DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.class_means import ClassMeans
from models.types import FloatArray, IntArray
from models.whitening import Whitened

_MOST_PARTS = 64  # directions that count


@dataclass(frozen=True)
class PrototypeAutoencoder:
    """Features to the error of their reconstruction from common classes.

    Attributes:
        axes: (D, M) onto the coordinates that count, each scaled by the root of what it counts.
        shift: (M,) subtracted.
        prototypes: (M, C) means of the common classes there.
        columns: (C,) which logits are theirs.
        log_shares: (C,) of the common classes in the pool.
    """

    axes: NDArray[np.float32]
    shift: NDArray[np.float32]
    prototypes: NDArray[np.float32]
    columns: IntArray
    log_shares: NDArray[np.float32]

    @classmethod
    def fit(
        cls, means: ClassMeans, space: Whitened, *, columns: IntArray, shares: FloatArray
    ) -> Self:
        """Put it together from what is known.

        Args:
            means: where classes lie.
            space: whose coordinates these are.
            columns: (C,) classes that are common.
            shares: (C,) their shares in the pool.
        """
        parts = int(min(max(np.count_nonzero(space.shown), 1), _MOST_PARTS))
        counts = np.sqrt(space.shown[:parts] / np.maximum(space.variance[:parts], 1e-9))
        axes = space.axes[:, :parts] * counts
        return cls(
            axes=axes.astype(np.float32),
            shift=(space.middle @ axes).astype(np.float32),
            prototypes=(means.means[columns, :parts] * counts).T.astype(np.float32),
            columns=np.asarray(columns, dtype=np.int64),
            log_shares=np.log(np.maximum(shares, 1e-30)).astype(np.float32),
        )

    def errors(self, features: Tensor, logits: Tensor) -> Tensor:
        """(B,) sums of squared differences, >= 0.

        Args:
            features: (B, D).
            logits: (K, B) what the re-calibration layer says of them, in the same precision.
        """
        kind = logits.dtype
        drawn = torch.from_numpy(self.prototypes).to(kind)
        code = logits[torch.from_numpy(self.columns)]
        code = code + torch.from_numpy(self.log_shares).to(kind)[:, None]
        places = features.to(kind) @ torch.from_numpy(self.axes).to(kind)
        places -= torch.from_numpy(self.shift).to(kind)
        places -= (drawn @ torch.softmax(code, dim=0)).T
        return (places * places).sum(dim=1)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What must be stored."""
        return {
            "axes": self.axes,
            "shift": self.shift,
            "prototypes": self.prototypes,
            "columns": self.columns,
            "log_shares": self.log_shares,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]]) -> Self:
        """The autoencoder that ``state`` came from."""
        return cls(
            axes=state["axes"].astype(np.float32),
            shift=state["shift"].astype(np.float32),
            prototypes=state["prototypes"].astype(np.float32),
            columns=state["columns"].astype(np.int64),
            log_shares=state["log_shares"].astype(np.float32),
        )
