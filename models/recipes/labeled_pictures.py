"""Pictures of one class each, and what each of them may be used for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from models.errors import ShapeError
from models.recipes.labeled_set import BoolArray, LabeledSet
from models.recipes.training_set import TrainingSet
from models.types import IntArray

__all__ = ["BoolArray", "LabeledPictures"]


@dataclass(frozen=True)
class LabeledPictures(LabeledSet):
    """N labeled pictures, (N, 3, S, S); see ``LabeledSet``.

    Attributes:
        targets: (N,) int64 in [0, K).
    """

    targets: IntArray

    def __post_init__(self) -> None:
        size, targets = len(self.class_names), self.targets
        self._check(targets, "targets")
        if len(targets) and not 0 <= targets.min() <= targets.max() < size:
            raise ShapeError(f"found a target outside [0, {size})")

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)

    def counts(self, chosen: BoolArray) -> IntArray:
        """(K,) examples of each class among the chosen ones."""
        counts: IntArray = np.bincount(self.targets[chosen], minlength=self.classes)
        return counts

    def part(self, chosen: BoolArray) -> TrainingSet:
        """The chosen ones, in order."""
        rows = torch.from_numpy(np.flatnonzero(chosen))
        return TrainingSet(
            self.pictures[rows], torch.from_numpy(self.targets)[rows], self.class_names
        )

    def digest(self) -> str:
        """sha256 of everything in it."""
        return self._digest((), (self.targets,))
