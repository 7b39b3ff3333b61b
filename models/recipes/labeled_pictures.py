"""The labels of a project and their pictures, and what each of them may be used for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ShapeError
from models.recipes.training_set import TrainingSet
from models.types import IntArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class LabeledPictures:
    """N labeled pictures.

    Attributes:
        pictures: (N, 3, S, S) uint8.
        targets: (N,) int64 in [0, K).
        ids: (N,) int64, the task ids.
        class_names: K names.
        tail: indices of the rare classes.
        held_out: (N,) for judging only: nothing is fitted on them.
        seen: (N,) those that the incumbent's network was trained on: nothing is judged by them.
        validation: (N,) for early stopping only; none of them is held out.
    """

    pictures: Tensor
    targets: IntArray
    ids: IntArray
    class_names: tuple[str, ...]
    tail: tuple[int, ...]
    held_out: BoolArray
    seen: BoolArray
    validation: BoolArray

    def __post_init__(self) -> None:
        shapes = {
            len(array)
            for array in (
                self.pictures,
                *(self.targets, self.ids, self.held_out, self.seen, self.validation),
            )
        }
        if len(shapes) != 1:
            raise ShapeError(
                f"found {len(self.pictures)} pictures, {len(self.targets)} targets, "
                f"{len(self.ids)} ids and masks of {len(self.held_out)} and {len(self.seen)}; "
                "expected as many of each"
            )
        size, targets = len(self.class_names), self.targets
        if len(targets) and not 0 <= targets.min() <= targets.max() < size:
            raise ShapeError(f"found a target outside [0, {size})")
        if any(not 0 <= k < size for k in self.tail):
            raise ShapeError(f"found tail classes {list(self.tail)}; expected numbers below {size}")

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def judged(self) -> BoolArray:
        """(N,) held-out examples that neither network was fitted on."""
        return self.held_out & ~self.seen

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
        digest = hashlib.sha256(json.dumps([self.class_names, self.tail]).encode())
        for array in (self.targets, self.ids, self.held_out, self.seen, self.validation):
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        digest.update(f"{tuple(self.pictures.shape)}".encode())
        for picture in self.pictures:
            digest.update(picture.numpy().tobytes())
        return digest.hexdigest()
