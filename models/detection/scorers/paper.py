"""MMM22 on boxes: an autoencoder over the K logits of detections, mean error of the surest.

Source: Singh et al. 2021, arXiv:2112.07835, section 3; METHODS sections 2 to 4, detection parts.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from models.autoencoder import LogitAutoencoder
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.detection.matching import LabeledSlots
from models.detection.recalibration import RecalibratedConvolution
from models.detection.scorers.base import (
    LEAST_CONFIDENCE,
    PictureScores,
    State,
    mean_of_surest,
    most,
)
from models.detection.slots import Slots
from models.errors import NotEnoughLabels
from models.types import ClassSpace

_LEAST_ERROR = 1e-12
_LAYER, _AUTOENCODER = "layer.", "autoencoder."


class Paper:
    """Reconstruction error of re-calibrated logits, averaged over the five surest detections.

    Needs labeled boxes that the detector finds.
    """

    learns: ClassVar[bool] = True
    objects: ClassVar[bool] = True
    tail: ClassVar[bool] = False
    space: ClassVar[Literal["prob", "logit"]] = "prob"
    largest: ClassVar[bool] = False

    def __init__(self, config: MinerConfig, *, patch_size: int) -> None:
        self.config, self.patch_size = config, patch_size
        self._layer: RecalibratedConvolution | None = None
        self._autoencoder: LogitAutoencoder | None = None

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Train the layer on all detections, and the autoencoder on the logits of the sure ones.

        Raises: NotEnoughLabels: if there is nothing to train one of them on.
        """
        if classes.size < 2:
            raise NotEnoughLabels("found one class; a reconstruction error needs two at least")
        self._learn_layer(labeled, classes, seed)
        sure = labeled.slots.take(labeled.slots.confidence >= LEAST_CONFIDENCE)
        if not len(sure):
            raise NotEnoughLabels(
                f"no detection of the labeled pictures reaches a confidence of {LEAST_CONFIDENCE}"
            )
        self._autoencoder = LogitAutoencoder.fit(
            self._logits(sure),
            config=AutoencoderConfig(
                space=self.space,
                members=self.config.members,
                min_steps=self.config.autoencoder_steps,
            ),
            seed=seed,
        )
        return self

    def scores(self, slots: Slots, count: int) -> PictureScores:
        """By the logarithm of the error; pictures without a detection come last."""
        if self._autoencoder is None:
            raise RuntimeError("fit was not called")
        errors: NDArray[np.float64] = np.zeros(len(slots))
        if len(slots):
            errors = self._autoencoder.errors(self._logits(slots))
        if self.largest:
            sure = slots.take(slots.confidence >= LEAST_CONFIDENCE)
            each = errors[slots.confidence >= LEAST_CONFIDENCE]
            found = most(each[:, None], sure, count, none=0.0)[:, 0]
        else:
            found = mean_of_surest(errors, slots, count)
        return PictureScores.plain(np.log(found + _LEAST_ERROR), "reconstruction error")

    def _learn_layer(self, labeled: LabeledSlots, classes: ClassSpace, seed: int) -> None:
        self._layer = RecalibratedConvolution.fit(
            labeled,
            num_classes=classes.size,
            patch_size=self.patch_size,
            config=RecalibrationConfig(form="paper"),
            seed=seed,
        )

    def _logits(self, slots: Slots) -> NDArray[np.float32]:
        if self._layer is None:
            raise RuntimeError("fit was not called")
        return self._layer.logits(slots)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Layer and autoencoder."""
        found: dict[str, NDArray[np.generic]] = {}
        if self._autoencoder is not None:
            found |= {f"{_AUTOENCODER}{k}": v for k, v in self._autoencoder.state().items()}
        if self._layer is not None:
            found |= {f"{_LAYER}{k}": v for k, v in self._layer.state().items()}
        return found

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take both back."""
        layer = _part(state, _LAYER)
        self._layer = RecalibratedConvolution.from_state(layer) if layer else None
        self._autoencoder = LogitAutoencoder.from_state(
            {k: v.astype(np.float32) for k, v in _part(state, _AUTOENCODER).items()},
            space=self.space,
        )
        return self


class PaperLogit(Paper):
    """As ``Paper``; logits are reconstructed, the error is between softmaxes, as its text says."""

    space: ClassVar[Literal["prob", "logit"]] = "logit"


class PaperMax(Paper):
    """As ``Paper``; the largest error of a picture's detections counts, not their mean."""

    largest: ClassVar[bool] = True


class PaperNoRc(Paper):
    """As ``Paper`` without re-calibration, on the original logits. Needs labeled pictures."""

    objects: ClassVar[bool] = False

    def _learn_layer(self, labeled: LabeledSlots, classes: ClassSpace, seed: int) -> None:
        self._layer = None

    def _logits(self, slots: Slots) -> NDArray[np.float32]:
        return slots.logits


def _part(state: State, prefix: str) -> dict[str, NDArray[np.generic]]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
