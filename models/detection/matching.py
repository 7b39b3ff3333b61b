"""Which detections of a labeled picture are objects, which are background, which teach nothing.

RetinaNet's rule for anchors, on detections: an object's from an overlap of 0.5 on, background
below 0.4. A detection at a place that nobody knows (a box without a class) teaches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.detection.boxes import Boxes, array, covered, overlaps
from models.detection.slots import Slots
from models.types import IntArray

OBJECT, BACKGROUND = 0.5, 0.4
_WITHIN = 0.5  # share of a detection in an unknown place from which on it teaches nothing


@dataclass(frozen=True)
class LabeledSlots:
    """Detections of labeled pictures and what they are.

    Attributes:
        slots: M detections.
        targets: (M,) class number, K for background; all of them teach something.
        pictures: how many labeled pictures there are.
        objects: (K,) labeled boxes of each class.
        missed: (K,) those that no detection overlaps enough.
    """

    slots: Slots
    targets: IntArray
    pictures: int
    objects: IntArray
    missed: IntArray


def label(slots: Slots, boxes: Sequence[Boxes], class_names: Sequence[str]) -> LabeledSlots:
    """Give every detection its class; those that teach nothing are left out.

    Args:
        slots: of N labeled pictures.
        boxes: what each holds.
        class_names: K names; boxes of others are as boxes without a class.
    """
    index = {name: number for number, name in enumerate(class_names)}
    count = len(index)
    targets: IntArray = np.full(len(slots), count, dtype=np.int64)
    objects: IntArray = np.zeros(count, dtype=np.int64)
    missed: IntArray = np.zeros(count, dtype=np.int64)
    starts = np.searchsorted(slots.picture, np.arange(len(boxes) + 1))
    for number, some in enumerate(boxes):
        here = slice(int(starts[number]), int(starts[number + 1]))
        known = [box for box in some if box.label in index]
        classes = np.asarray([index[str(box.label)] for box in known], dtype=np.int64)
        objects += np.bincount(classes, minlength=count)
        found, free = _targets(
            slots.boxes[here],
            array(known),
            classes,
            array([box for box in some if box.label not in index]),
            background=count,
        )
        targets[here] = found
        missed += np.bincount(classes[free], minlength=count)
    teaches = targets >= 0
    return LabeledSlots(slots.take(teaches), targets[teaches], len(boxes), objects, missed)


def _targets(
    found: NDArray[np.float32],
    known: NDArray[np.float32],
    classes: IntArray,
    unknown: NDArray[np.float32],
    *,
    background: int,
) -> tuple[IntArray, NDArray[np.bool_]]:
    """Class of each detection (-1: teaches nothing), and which known boxes none stands for."""
    targets: IntArray = np.full(len(found), background, dtype=np.int64)
    free = np.ones(len(known), dtype=bool)
    if len(unknown) and len(found):
        doubt = (covered(found, unknown) >= _WITHIN) | (overlaps(found, unknown) >= BACKGROUND)
        targets[doubt.any(axis=1)] = -1
    if len(known) and len(found):
        shared = overlaps(found, known)
        best = shared.argmax(axis=1)
        most = shared.max(axis=1)
        targets[(most >= BACKGROUND) & (most < OBJECT)] = -1
        hits = most >= OBJECT
        targets[hits] = classes[best[hits]]
        free = shared.max(axis=0) < OBJECT
    return targets, free
