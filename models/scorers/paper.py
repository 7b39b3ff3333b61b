"""MMM22 as published and its ablations: an autoencoder on all labels, order by its error.

Which layer, which space and which budget is the name's business; ``recalibration`` of the settings
is the default scorer's.
Source: Singh et al. 2021, arXiv:2112.07835, section 3; METHODS sections 2 to 4 and 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.autoencoder import LogitAutoencoder
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.recalibration import RecalibrationLayer
from models.scorers.base import (
    OriginalHead,
    State,
    check_labeled,
    exact_logits,
    head_of_queue,
    part,
)
from models.scorers.needs import Needs, check_needs
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue

_LEAST_ERROR = 1e-12  # below it all errors are alike
_NO_SHARE = -1e4  # a logarithm whose power is 0: of a class that the head has no output for


class Paper:
    """MMM22: error of an autoencoder on the softmax of re-calibrated logits.

    It does not look at the tail list. The paper's layer (focal loss, early stopping) and the
    released code's space; an ensemble of ``members``, since one autoencoder's seed decides more
    than anything else (METHODS section 16).
    Needs labels of two classes.
    """

    needs: ClassVar[Needs] = Needs(classes=2)
    form: ClassVar[RecalibrationConfig] = RecalibrationConfig(form="paper")

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._layer: RecalibrationLayer | None = None
        self._autoencoder: LogitAutoencoder | None = None

    @property
    def budget(self) -> AutoencoderConfig:
        """Space and training of the autoencoder."""
        return AutoencoderConfig(
            space="prob",
            members=self.config.members,
            min_steps=self.config.autoencoder_steps,
        )

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Train both on all labels, tail included, as the paper does."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        self._learn_outputs(labeled, classes, seed)
        outputs: NDArray[np.float32] = np.empty((len(labeled), classes.size), dtype=np.float32)
        for start, some in self._outputs(labeled.examples):
            outputs[start : start + some.shape[1]] = some.T.numpy()
        self._autoencoder = LogitAutoencoder.fit(outputs, config=self.budget, seed=seed)
        return self

    def _learn_outputs(self, labeled: LabeledExamples, classes: ClassSpace, seed: int) -> None:
        """The re-calibration layer."""
        self._layer = RecalibrationLayer.fit(
            labeled.examples.dense().features,
            labeled.targets,
            num_classes=classes.size,
            config=self.form,
            seed=seed,
        )

    def _outputs(self, examples: Examples) -> Iterator[tuple[int, Tensor]]:
        """For each batch its start and the (K, B) logits that are reconstructed, float64."""
        if self._layer is None:
            raise RuntimeError("rank was called before fit")
        return exact_logits(self._layer, examples)

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """By reconstruction error, ties by id."""
        # Errors are spread over decades; rounded as they are, the small ones would all be ties.
        scores = np.log(self.errors(pool) + _LEAST_ERROR)
        return head_of_queue(scores, pool, budget, "reconstruction error")

    def errors(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) reconstruction errors, each >= 0.

        Raises: ShapeError: if features are not finite or of another size.
        """
        if self._autoencoder is None:
            raise RuntimeError("rank was called before fit")
        errors: NDArray[np.float64] = np.empty(len(examples))
        for start, some in self._outputs(examples):
            errors[start : start + some.shape[1]] = self._autoencoder.errors(some.T.numpy())
        return errors

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Layer and autoencoder."""
        if self._autoencoder is None:
            return {}
        found: dict[str, NDArray[np.generic]] = {
            f"autoencoder.{name}": value for name, value in self._autoencoder.state().items()
        }
        return found | self._state_of_outputs()

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take both back."""
        self._restore_outputs(state, classes)
        self._autoencoder = LogitAutoencoder.from_state(
            part(state, "autoencoder."), space=self.budget.space
        )
        return self

    def _state_of_outputs(self) -> dict[str, NDArray[np.generic]]:
        layer = {} if self._layer is None else self._layer.state()
        return {f"layer.{name}": value for name, value in layer.items()}

    def _restore_outputs(self, state: State, classes: ClassSpace) -> None:
        self._layer = RecalibrationLayer.from_state(part(state, "layer."))


class PaperLogit(Paper):
    """MMM22 as its text has it: logits are reconstructed, the error is between softmaxes.

    Needs labels of two classes.
    """

    @property
    def budget(self) -> AutoencoderConfig:
        """As ``Paper``, in logits."""
        return super().budget.model_copy(update={"space": "logit"})


class PaperReleased(Paper):
    """MMM22 as released: cross-entropy for 15 epochs, then one autoencoder for 15 epochs.

    With few labels these epochs train next to nothing. Needs labels of two classes.
    """

    form = RecalibrationConfig(form="released", epochs=15, min_steps=0)

    @property
    def budget(self) -> AutoencoderConfig:
        """Fifteen epochs, however few steps that is."""
        return AutoencoderConfig(
            space="prob", members=1, epochs=15, min_steps=1, max_steps=1_000_000
        )


class PaperNoRc(Paper):
    """MMM22 without re-calibration: the softmax of the original head is reconstructed.

    Needs labels, for the autoencoder, and the original head.
    """

    needs: ClassVar[Needs] = Needs(classes=1, original_head=True)

    def __init__(self, config: MinerConfig) -> None:
        super().__init__(config)
        self._head: OriginalHead | None = None

    def _learn_outputs(self, labeled: LabeledExamples, classes: ClassSpace, seed: int) -> None:
        """The model's own head, or a plain one in its place."""
        self._head = OriginalHead.fit(labeled, num_classes=classes.size)

    def _outputs(self, examples: Examples) -> Iterator[tuple[int, Tensor]]:
        """Logarithms of the softmax stand for the logits: their softmax is the same."""
        if self._head is None:
            raise RuntimeError("rank was called before fit")
        for start, logs in self._head.log_batches(examples):
            yield start, logs.clamp_min(_NO_SHARE)

    def _state_of_outputs(self) -> dict[str, NDArray[np.generic]]:
        return {} if self._head is None else self._head.state()

    def _restore_outputs(self, state: State, classes: ClassSpace) -> None:
        self._head = OriginalHead.from_state(state, num_classes=classes.size)
