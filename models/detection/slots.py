"""The detections of a picture as one row of fixed width, and back.

A row has J slots. The first is the whole picture: features only, and in place of an anchor how many
of a slot's features are the patch that the last convolution saw (the others are of the box). The
others are detections, surest first; what is left is empty. Of N pictures, with K classes of the
detector and D features a slot:

    features (N, J * D)
    said     (N, J * (6 + K))   x0, y0, x1, y1, confidence, anchor, K class logits
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError
from models.types import Examples, FloatArray, IntArray

CORNERS, CONFIDENCE, ANCHOR, LOGITS = slice(0, 4), 4, 5, 6
_BATCH = 2048  # pictures read at once


@dataclass(frozen=True)
class Slots:
    """M detections of some pictures.

    Attributes:
        picture: (M,) row of the picture among the N.
        features: (M, D).
        boxes: (M, 4) corners as shares of the picture.
        confidence: (M,) the detector's, in (0, 1].
        anchor: (M,) which of its place's anchors it comes from.
        logits: (M, K) before the sigmoid.
    """

    picture: IntArray
    features: FloatArray
    boxes: NDArray[np.float32]
    confidence: NDArray[np.float32]
    anchor: IntArray
    logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.picture)

    def take(self, rows: IntArray | NDArray[np.bool_]) -> Slots:
        """Those at some rows."""
        return Slots(
            self.picture[rows],
            self.features[rows],
            self.boxes[rows],
            self.confidence[rows],
            self.anchor[rows],
            self.logits[rows],
        )


@dataclass(frozen=True)
class Layout:
    """How wide a row is.

    Attributes:
        slots: J, with that of the whole picture.
        size: D.
        classes: K of the detector.
        patch: the first so many of D are what the last convolution saw; 0 where there is no row.
    """

    slots: int
    size: int
    classes: int
    patch: int

    @classmethod
    def of(cls, examples: Examples, classes: int) -> Layout:
        """What the widths of arrays say, given the detector's K.

        Raises: ShapeError: if they are not those of a detector over K classes.
        """
        said = examples.logits
        wide = 0 if said is None else said.shape[1]
        slots, rest = divmod(wide, LOGITS + classes)
        size, more = divmod(examples.features.shape[1], slots) if slots else (0, 1)
        if said is None or not slots or rest or more:
            raise ShapeError(
                f"found features {examples.features.shape} and {wide} columns beside them, "
                f"expected slots of {LOGITS + classes} for {classes} classes: these are of another "
                "frozen model; embed the images again"
            )
        return cls(slots, size, classes, int(said[0, ANCHOR]) if len(said) else 0)

    def pictures(self, examples: Examples) -> FloatArray:
        """(N, D) features of the whole pictures."""
        dense = examples.dense()
        found: FloatArray = dense.features.reshape(len(dense), self.slots, self.size)[:, 0]
        return found

    def surest(self, examples: Examples) -> NDArray[np.float32]:
        """(N,) confidence of each picture's surest detection; 0 where there is none."""
        if examples.logits is None or self.slots < 2:
            return np.zeros(len(examples), dtype=np.float32)
        # The first slot is the whole picture, the second the surest detection.
        told = examples.logits[:, LOGITS + self.classes + CONFIDENCE]
        return np.asarray(told if examples.at is None else told[examples.at], dtype=np.float32)

    def detections(self, examples: Examples) -> Slots:
        """All detections of N pictures, picture after picture, surest first."""
        parts = [
            self._part(examples.slice(start, start + _BATCH).dense(), start)
            for start in range(0, len(examples), _BATCH)
        ]
        if not parts:
            parts = [self._part(examples.dense(), 0)]
        return Slots(*(np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS))

    def _part(self, dense: Examples, start: int) -> Slots:
        shape = (len(dense), self.slots, LOGITS + self.classes)
        packed: NDArray[np.float32] = np.asarray(dense.logits, dtype=np.float32)
        said: NDArray[np.float32] = packed.reshape(shape)[:, 1:]
        features = dense.features.reshape(len(dense), self.slots, self.size)[:, 1:]
        there = said[..., CONFIDENCE] > 0
        found = said[there]
        return Slots(
            picture=np.nonzero(there)[0].astype(np.int64) + start,
            features=features[there],
            boxes=found[:, CORNERS],
            confidence=found[:, CONFIDENCE],
            anchor=found[:, ANCHOR].astype(np.int64),
            logits=found[:, LOGITS:],
        )


_FIELDS = ("picture", "features", "boxes", "confidence", "anchor", "logits")
