"""Why pictures with boxes are taken for rare: their detections, and the one that decides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from models.detection.boxes import from_text
from models.detection.matching import label
from models.detection.scorers.base import LEAST_CONFIDENCE
from models.detection.slots import Layout, Slots
from models.recipes.fit_detection_miner import DetectionMiner, over
from models.tasks.base import LabeledTexts
from models.types import Examples, IntArray, numbered
from models.why_rare import NEAREST, Detected, Near, WhyRare, nearest_known

_MOST_SHOWN = 5


def explain_boxes(
    miner: DetectionMiner, examples: Examples, known: LabeledTexts
) -> tuple[WhyRare, ...]:
    """As ``explain``; what is compared is the detection that decides, with those on labeled boxes.

    Where the detector finds no labeled box of a tail class, whole pictures are compared. What
    decides is the one with the best log-odds of the tail; before anything is fitted, the one that
    the detector finds likeliest of a tail class.
    """
    layout = Layout.of(examples, len(miner.head))
    slots = over(layout.detections(examples), miner.columns)
    tail, judge = list(miner.classes.tail), miner.judge_of_boxes
    rarity: NDArray[np.float64] | None = None
    if judge is not None and len(slots):
        rarity, odds = judge.over_detections.log_odds(judge.examples(slots))
        score = odds[:, -1]
    else:
        score = slots.logits[:, tail].max(axis=1, initial=-np.inf).astype(np.float64)
    best = _best(score, slots, len(examples)) if tail else np.full(len(examples), -1)
    pictures = np.flatnonzero(best >= 0)
    deciding = slots.take(best[pictures])
    errors: NDArray[np.float64] | None = None
    above: NDArray[np.float64] | None = None
    if judge is not None and len(deciding):
        errors = judge.over_detections.reconstruction_error(judge.examples(deciding))
        above = judge.over_detections.above_usual(errors)
    near = _nearest(miner, deciding, known)
    if near is None:
        near = _nearest_pictures(miner, examples.take(pictures), known)
    found = []
    for picture, decides in enumerate(best.tolist()):
        detections = _detections(slots, picture, decides, rarity)
        if decides < 0:
            found.append(WhyRare(detections=detections))
            continue
        place = int(np.searchsorted(pictures, picture))
        here = slots.picture == picture
        found.append(
            WhyRare(
                tail_mass=float(expit(slots.logits[here][:, tail].max())),
                error=None if errors is None else float(errors[place]),
                error_above=None if above is None else float(above[place]),
                nearest=near[place],
                detections=detections,
            )
        )
    return tuple(found)


def _best(score: NDArray[np.float64], slots: Slots, count: int) -> IntArray:
    """(N,) row of each picture's detection with the highest score; -1 where it has none."""
    best: IntArray = np.full(count, -1, dtype=np.int64)
    order = np.lexsort((-score, slots.picture))
    pictures, first = np.unique(slots.picture[order], return_index=True)
    best[pictures] = order[first]
    return best


def _nearest(
    miner: DetectionMiner, deciding: Slots, known: LabeledTexts
) -> list[tuple[Near, ...]] | None:
    """For each of some detections the nearest ones that lie on labeled boxes of tail classes.

    None where the detector finds none of these.
    """
    tasks = known.examples
    if not len(tasks) or not len(deciding):
        return [()] * len(deciding)
    slots = over(Layout.of(tasks, len(miner.head)).detections(tasks), miner.columns)
    boxes = [from_text(text) for text in known.labels]
    labeled = label(slots, boxes, miner.classes.names)
    of_tail = np.isin(labeled.targets, miner.classes.tail)
    some, targets = labeled.slots.take(of_tail), labeled.targets[of_tail]
    if not len(some):
        return None
    # What the trunk sees in the box: the patch before it was made for the classes of then.
    return nearest_known(
        numbered(deciding.features[:, miner.patch_size :]),
        numbered(some.features[:, miner.patch_size :]),
        targets,
        tasks=tasks.ids[some.picture],
        count=NEAREST,
    )


def _nearest_pictures(
    miner: DetectionMiner, examples: Examples, known: LabeledTexts
) -> list[tuple[Near, ...]]:
    """The same of whole pictures, by the first tail class that each labeled one holds."""
    index = {miner.classes.names[k]: k for k in miner.classes.tail}
    held = [[index[b.label] for b in from_text(text) if b.label in index] for text in known.labels]
    rows = np.flatnonzero([bool(some) for some in held])
    some = known.examples.take(rows)
    return nearest_known(
        _whole(miner, examples),
        _whole(miner, some),
        np.asarray([held[row][0] for row in rows], dtype=np.int64),
        tasks=some.ids,
        count=NEAREST,
    )


def _whole(miner: DetectionMiner, examples: Examples) -> Examples:
    layout = Layout.of(examples, len(miner.head))
    return numbered(layout.pictures(examples)[:, miner.patch_size :])


def _detections(
    slots: Slots, picture: int, decides: int, rarity: NDArray[np.float64] | None
) -> tuple[Detected, ...]:
    """A picture's surest detections, and the one that decides whatever the detector says of it."""
    rows = np.flatnonzero(slots.picture == picture)
    sure = expit(slots.logits[rows].max(axis=1, initial=-np.inf))
    order = np.argsort(-sure, kind="stable")
    shown = [
        (int(rows[at]), float(sure[at]))
        for at in order
        if sure[at] >= LEAST_CONFIDENCE or rows[at] == decides
    ]
    kept = [one for place, one in enumerate(shown) if place < _MOST_SHOWN or one[0] == decides]
    return tuple(
        Detected(
            target=int(slots.logits[row].argmax()),
            confidence=confidence,
            corners=(
                float(slots.boxes[row, 0]),
                float(slots.boxes[row, 1]),
                float(slots.boxes[row, 2]),
                float(slots.boxes[row, 3]),
            ),
            rarity=None if rarity is None else float(rarity[row]),
            decides=row == decides,
        )
        for row, confidence in kept
    )
