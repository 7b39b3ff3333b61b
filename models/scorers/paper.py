"""MMM22 as published: re-calibration layer, autoencoder on all labels, order by its error."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.autoencoder import LogitAutoencoder
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.recalibration import RecalibrationLayer
from models.scorers.base import State, check_labeled, check_shapes, head_of_queue, part
from models.scorers.needs import Needs, check_needs
from models.streaming import Stacked
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue


class Paper:
    """Reconstruction error of re-calibrated logits; it does not look at the tail list.

    Source: Singh et al. 2021, arXiv:2112.07835, section 3.
    """

    needs: ClassVar[Needs] = Needs(classes=2)

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._layer: RecalibrationLayer | None = None
        self._autoencoder: LogitAutoencoder | None = None

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Train both on all labels, tail included, as the paper does."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        form = self.config.recalibration
        features = labeled.examples.dense().features
        self._layer = RecalibrationLayer.fit(
            features,
            labeled.targets,
            num_classes=classes.size,
            # Our own form is not the paper's; asked for by name, this scorer stays faithful.
            config=RecalibrationConfig(form="paper" if form == "regularised" else form),
            seed=seed,
        )
        self._autoencoder = LogitAutoencoder.fit(
            self._layer.logits(features),
            config=AutoencoderConfig(
                space=self.config.autoencoder_space,
                members=self.config.members,
                min_steps=self.config.autoencoder_steps,
            ),
            seed=seed,
        )
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """By reconstruction error, ties by id."""
        if self._layer is None or self._autoencoder is None:
            raise RuntimeError("rank was called before fit")
        check_shapes(pool)
        errors: NDArray[np.float64] = np.empty(len(pool))
        for start, (logits,) in Stacked([self._layer]).batches(pool):
            here = slice(start, start + logits.shape[1])
            errors[here] = self._autoencoder.errors(logits.T.numpy())
        return head_of_queue(errors, pool, budget, "reconstruction error")

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Layer and autoencoder."""
        if self._layer is None or self._autoencoder is None:
            return {}
        return {
            **{f"layer.{name}": value for name, value in self._layer.state().items()},
            **{f"autoencoder.{name}": value for name, value in self._autoencoder.state().items()},
        }

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take both back."""
        self._layer = RecalibrationLayer.from_state(part(state, "layer."))
        self._autoencoder = LogitAutoencoder.from_state(
            part(state, "autoencoder."), space=self.config.autoencoder_space
        )
        return self
