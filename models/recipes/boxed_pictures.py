"""The pictures of a project with the boxes on them, and what each may be used for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.detection.boxes import Boxes, to_text
from models.errors import ShapeError
from models.types import IntArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class BoxedPictures:
    """N labeled pictures.

    Attributes:
        pictures: (N, 4, S, S) uint8, as ``Detector.pixels`` gives them.
        boxes: of each, as shares of the picture; none is a picture of background.
        ids: (N,) int64, the task ids.
        class_names: K names.
        tail: indices of the rare classes.
        held_out: (N,) for judging only: nothing is fitted on them.
        seen: (N,) those that the incumbent's network was trained on: nothing is judged by them.
        validation: (N,) for early stopping only; none of them is held out.
    """

    pictures: Tensor
    boxes: tuple[Boxes, ...]
    ids: IntArray
    class_names: tuple[str, ...]
    tail: tuple[int, ...]
    held_out: BoolArray
    seen: BoolArray
    validation: BoolArray

    def __post_init__(self) -> None:
        rows = (self.boxes, self.ids, self.held_out, self.seen, self.validation)
        if {len(self.pictures)} != {len(row) for row in rows}:
            raise ShapeError(
                f"found {len(self.pictures)} pictures, {len(self.boxes)} sets of boxes, "
                f"{len(self.ids)} ids and masks of {len(self.held_out)} and {len(self.seen)}; "
                "expected as many of each"
            )
        if any(not 0 <= k < len(self.class_names) for k in self.tail):
            raise ShapeError(
                f"found tail classes {list(self.tail)}; expected numbers below "
                f"{len(self.class_names)}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def judged(self) -> BoolArray:
        """(N,) held-out pictures that neither network was fitted on."""
        return self.held_out & ~self.seen

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
        texts = [to_text(boxes) for boxes in self.boxes]
        digest = hashlib.sha256(json.dumps([self.class_names, self.tail, texts]).encode())
        for array in (self.ids, self.held_out, self.seen, self.validation):
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        digest.update(f"{tuple(self.pictures.shape)}".encode())
        for picture in self.pictures:
            digest.update(picture.numpy().tobytes())
        return digest.hexdigest()

    def _of_each(self) -> IntArray:
        """(N, K) boxes."""
        index = {name: k for k, name in enumerate(self.class_names)}
        found = np.zeros((len(self.boxes), len(index)), dtype=np.int64)
        for n, boxes in enumerate(self.boxes):
            for box in boxes:
                if box.label in index:
                    found[n, index[box.label]] += 1
        return found
