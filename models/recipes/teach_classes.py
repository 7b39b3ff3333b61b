"""Pictures, or features, with one class each, for the training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from models.rebalancing.base import Batch, Criterion, Strategy
from models.recipes.augmentation import Augmentation, make_augmentation
from models.recipes.forward import balanced_accuracy, on_device, predict
from models.recipes.training_set import TrainingSet


@dataclass(frozen=True)
class ClassTeaching:
    """Implements ``models.recipes.teaching.Teaching``.

    Attributes:
        training: what is learned from.
        validation: what chooses the epoch, where there is any.
        augmentation: a name of ``make_augmentation``; features are not varied.
    """

    training: TrainingSet
    validation: TrainingSet | None
    augmentation: str

    worth_name = "balanced_accuracy"
    holds: Tensor | None = None

    @property
    def inputs(self) -> Tensor:
        """Of the training set."""
        return self.training.inputs

    @property
    def targets(self) -> Tensor:
        """Their classes."""
        return self.training.targets

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""
        return self.training.class_names

    @property
    def pictures(self) -> bool:
        """Whether the inputs are pictures."""
        return self.training.pictures

    @property
    def validates(self) -> bool:
        """Whether there are validation examples."""
        return self.validation is not None and len(self.validation) > 0

    def prepared(self, strategy: Strategy, seed: int) -> ClassTeaching:
        """With the strategy's examples."""
        inputs, targets = strategy.prepare_examples(
            self.inputs, self.targets, classes=self.training.classes, seed=seed
        )
        return replace(self, training=replace(self.training, inputs=inputs, targets=targets))

    def batch(self, rows: Tensor, epoch: int, device: torch.device) -> Batch:
        """Augmented, on [0, 1]."""
        inputs = on_device(self._augment(self.inputs[rows]), device)
        return Batch(inputs, self.targets[rows].to(device), rows, epoch)

    def loss(self, network: nn.Module, batch: Batch, criterion: Criterion) -> Tensor:
        """The strategy's, of the logits."""
        return criterion(network(batch.inputs).float(), batch.targets)

    def said(self, network: nn.Module, device: torch.device) -> Tensor:
        """(N, K) softmax."""
        return predict(network, self.inputs, device=device)

    def worth(self, network: nn.Module, device: torch.device, strategy: Strategy) -> float:
        """Balanced accuracy."""
        assert self.validation is not None  # ``validates``
        said = strategy.adjusted(predict(network, self.validation.inputs, device=device))
        return balanced_accuracy(said.argmax(dim=1), self.validation.targets)

    @cached_property
    def _augment(self) -> Augmentation:
        name = self.augmentation if self.pictures else "none"
        return make_augmentation(name, size_px=int(self.inputs.shape[-1]))
