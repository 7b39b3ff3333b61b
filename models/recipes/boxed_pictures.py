"""Pictures with boxes, and what each of them may be used for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.detection.boxes import Boxes, to_text
from models.recipes.labeled_set import BoolArray, LabeledSet
from models.types import IntArray

__all__ = ["BoolArray", "BoxedPictures"]


@dataclass(frozen=True)
class BoxedPictures(LabeledSet):
    """N labeled pictures, (N, 4, S, S) as ``Detector.pixels`` gives them; see ``LabeledSet``.

    Attributes:
        boxes: of each, as shares of the picture; none is a picture of background.
    """

    boxes: tuple[Boxes, ...]

    def __post_init__(self) -> None:
        self._check(self.boxes, "sets of boxes")

    def counts(self, chosen: BoolArray) -> IntArray:
        """(K,) boxes of each class on the chosen pictures."""
        found: IntArray = self._of_each()[chosen].sum(axis=0)
        return found

    def images(self, chosen: BoolArray) -> IntArray:
        """(K,) chosen pictures with a box of each class."""
        found: IntArray = (self._of_each()[chosen] > 0).sum(axis=0)
        return found

    def digest(self) -> str:
        """sha256 of everything in it."""
        return self._digest(([to_text(boxes) for boxes in self.boxes],), ())

    def _of_each(self) -> IntArray:
        """(N, K) boxes."""
        index = {name: k for k, name in enumerate(self.class_names)}
        found = np.zeros((len(self.boxes), len(index)), dtype=np.int64)
        for n, boxes in enumerate(self.boxes):
            for box in boxes:
                if box.label in index:
                    found[n, index[box.label]] += 1
        return found
