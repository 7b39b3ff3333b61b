"""Labeled examples as a training holds them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.errors import ShapeError


@dataclass(frozen=True)
class TrainingSet:
    """Labeled examples.

    Attributes:
        inputs: (N, 3, H, W) uint8 pictures, or (N, D) float features.
        targets: (N,) int64 in [0, K).
        class_names: K names.
    """

    inputs: Tensor
    targets: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.targets.shape != self.inputs.shape[:1] or self.targets.dtype != torch.int64:
            raise ShapeError(
                f"found inputs {tuple(self.inputs.shape)} and targets {tuple(self.targets.shape)} "
                f"({self.targets.dtype}); expected one int64 target for each input"
            )
        if len(self) and not 0 <= int(self.targets.min()) <= int(self.targets.max()) < self.classes:
            raise ShapeError(f"found a target outside [0, {self.classes})")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def pictures(self) -> bool:
        """Whether the inputs are pictures."""
        return self.inputs.ndim == 4
