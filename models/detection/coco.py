"""COCO's average precision and recall of each class, with intervals over images.

Which found box is which true one is decided by pycocotools (the reference, per image and class);
what follows from it is added up here, once as COCO does and once for each resample of the images,
in which an image counts as often as it was drawn.

Source: Lin et al. 2014, arXiv:1405.0312, and cocoapi's ``cocoeval.py``: IoU .50 to .95 in steps of
.05, precision at 101 recalls, at most 100 found boxes of a class in an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval
from pydantic import BaseModel, ConfigDict

from models.detection.boxes import Box, Boxes
from models.errors import ShapeError
from models.types import FloatArray

MOST_FOUND = 100
RESAMPLES = 100
_EVERY_SIZE = [0.0, 1e10]  # as COCO's "all"
_AT_HALF = 0  # the place of IoU .50
_LEAST = float(np.spacing(1))  # in cocoeval.py: 0 / 0 is 0
_RECALLS = np.linspace(0.0, 1.0, 101)
_OUTSIDE = (2.5, 97.5)  # percentiles: an interval of 95 %


class BoxFigures(BaseModel):
    """One class.

    Attributes:
        name: of the label config.
        boxes: true ones; images: in how many images they are.
        found: boxes that were said to be of it and lie on nothing to be ignored, whatever their
            confidence.
        ap: average precision, mean over IoU .50 to .95; None where there is no true box.
        ap_50: at IoU .50 alone.
        ar: average recall with 100 boxes an image, mean over the same overlaps.
        low, high: between which AP lies at 95 % when images are drawn anew; 0 and 1 where there is
            no true box.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    boxes: int
    images: int
    found: int
    ap: float | None
    ap_50: float | None
    ar: float | None
    low: float
    high: float

    @property
    def count(self) -> int:
        """True boxes."""
        return self.boxes

    @property
    def worth(self) -> float | None:
        """The figure that ``low`` and ``high`` are around."""
        return self.ap


class BoxMetrics(BaseModel):
    """What a detector is worth on N images. Means leave out classes without a true box.

    Attributes:
        classes: K, in the label config's order.
        tail: indices into ``classes``.
        images: N.
        boxes: true ones of all classes.
        mean_ap: mAP, over all classes; None where there is no true box at all.
        low, high: of ``mean_ap``, at 95 %.
        mean_ap_50, mean_ar: the same means of the other two.
        tail_ap, tail_ar: over the tail classes; None where none of them has a true box.
        notes: what a person should know, one sentence each.
        kind: by which these are told from a classifier's.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["boxes"] = "boxes"
    classes: tuple[BoxFigures, ...]
    tail: tuple[int, ...] = ()
    images: int
    boxes: int
    mean_ap: float | None
    low: float
    high: float
    mean_ap_50: float | None
    mean_ar: float | None
    tail_ap: float | None
    tail_ar: float | None
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """True boxes: the examples that these figures rest on."""
        return self.boxes


def box_metrics(
    found: Sequence[FloatArray],
    truth: Sequence[Boxes],
    *,
    class_names: Sequence[str],
    tail: Sequence[int] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> BoxMetrics:
    """Compare what a detector found with what is there.

    Args:
        found: for each of N images (D, 6): x0, y0, x1, y1, class index, confidence, of which only
            the order matters; rows with confidence 0 are none. Coordinates as those of ``truth``.
        truth: N images' boxes. A found box most of which lies on one without label, or with a
            label that is not among the classes, counts neither for nor against the detector.
        class_names: K names.
        tail: indices of the tail classes.
        resamples: how often images are drawn anew for the intervals; 0 makes them 0 to 1.
        seed: of these draws.

    Raises: ShapeError: if there is not one (D, 6) array for each image, a class or a tail class is
        out of range, a number is not finite, or there is no image.
    """
    names, rare = tuple(class_names), tuple(sorted({int(k) for k in tail}))
    rows = _checked(found, truth, names, rare)
    matches = [_Matches.of(rows, truth, k, names) for k in range(len(names))]
    drawn = np.random.default_rng(seed).multinomial(
        len(truth), np.full(len(truth), 1 / len(truth)), size=resamples
    )
    aps = np.array([[match.averages(times)[0] for match in matches] for times in drawn])
    aps = aps.reshape(resamples, len(names))
    classes = tuple(
        _figures(name, match, aps[:, k])
        for k, (name, match) in enumerate(zip(names, matches, strict=True))
    )
    there = [one for one in classes if one.boxes]
    of_tail = [classes[k] for k in rare if classes[k].boxes]
    low, high = _interval(_means(aps))
    return BoxMetrics(
        classes=classes,
        tail=rare,
        images=len(truth),
        boxes=sum(one.boxes for one in classes),
        mean_ap=_mean([one.ap for one in there]),
        low=low,
        high=high,
        mean_ap_50=_mean([one.ap_50 for one in there]),
        mean_ar=_mean([one.ar for one in there]),
        tail_ap=_mean([one.ap for one in of_tail]),
        tail_ar=_mean([one.ar for one in of_tail]),
        notes=_absent([one.name for one in classes if not one.boxes]),
    )


@dataclass(frozen=True)
class _Matches:
    """The found boxes of one class over all images, the surest first.

    Attributes:
        image: (D,) in which image each one is.
        right: (T, D) whether it is a true box at each overlap.
        wrong: (T, D) whether it is none; neither where it is ignored.
        there: (N,) true boxes of each image.
    """

    image: NDArray[np.int64]
    right: NDArray[np.bool_]
    wrong: NDArray[np.bool_]
    there: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        found: Sequence[NDArray[np.float64]],
        truth: Sequence[Boxes],
        k: int,
        names: tuple[str, ...],
    ) -> _Matches:
        """Ask pycocotools about each image."""
        judge = COCOeval(iouType="bbox")
        overlaps = len(judge.params.iouThrs)
        images: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        scores: list[NDArray[np.float64]] = [np.empty(0)]
        right: list[NDArray[np.bool_]] = [np.empty((overlaps, 0), bool)]
        wrong: list[NDArray[np.bool_]] = [np.empty((overlaps, 0), bool)]
        there = np.zeros(len(truth), dtype=np.int64)
        for n, (rows, boxes) in enumerate(zip(found, truth, strict=True)):
            there[n] = sum(box.label == names[k] for box in boxes)
            # Its ids start at 1, because it keeps them where 0 is "none".
            judge._gts[n, k] = [
                _true(number + 1, box, ignored=box.label != names[k])
                for number, box in enumerate(boxes)
                if box.label == names[k] or box.label not in names
            ]
            judge._dts[n, k] = [
                _found(number + 1, row) for number, row in enumerate(rows[rows[:, 4] == k])
            ]
            judge.ious[n, k] = judge.computeIoU(n, k)
            said = judge.evaluateImg(n, k, _EVERY_SIZE, MOST_FOUND)
            if said is None:
                continue
            ignored, matched = said["dtIgnore"].astype(bool), said["dtMatches"] > 0
            images.append(np.full(len(said["dtScores"]), n))
            scores.append(np.asarray(said["dtScores"], dtype=np.float64))
            right.append(matched & ~ignored)
            wrong.append(~matched & ~ignored)
        order = np.argsort(-np.concatenate(scores), kind="stable")
        return cls(
            np.concatenate(images)[order],
            np.concatenate(right, axis=1)[:, order],
            np.concatenate(wrong, axis=1)[:, order],
            there,
        )

    def averages(self, times: NDArray[np.int64]) -> tuple[float, float, float]:
        """AP, AP at IoU .50 and AR, each image counted so many times; NaN without a true box.

        Args:
            times: (N,) at least 0.
        """
        boxes = int((self.there * times).sum())
        if not boxes:
            return float("nan"), float("nan"), float("nan")
        if not len(self.image):
            return 0.0, 0.0, 0.0
        weights = times[self.image]
        right = np.cumsum(self.right * weights, axis=1)
        wrong = np.cumsum(self.wrong * weights, axis=1)
        recall = right / boxes
        precision = right / (right + wrong + _LEAST)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        best = np.pad(best, ((0, 0), (0, 1)))  # a recall that is never reached: 0
        at = [line[np.searchsorted(r, _RECALLS)] for line, r in zip(best, recall, strict=True)]
        by_overlap = np.mean(at, axis=1)
        return float(by_overlap.mean()), float(by_overlap[_AT_HALF]), float(recall[:, -1].mean())


def _figures(name: str, match: _Matches, drawn: NDArray[np.float64]) -> BoxFigures:
    ap, ap_50, ar = match.averages(np.ones_like(match.there))
    boxes = int(match.there.sum())
    low, high = _interval(drawn) if boxes else (0.0, 1.0)
    return BoxFigures(
        name=name,
        boxes=boxes,
        images=int((match.there > 0).sum()),
        found=int((match.right | match.wrong)[_AT_HALF].sum()),
        ap=ap if boxes else None,
        ap_50=ap_50 if boxes else None,
        ar=ar if boxes else None,
        low=low,
        high=high,
    )


def _true(number: int, box: Box, *, ignored: bool) -> dict[str, object]:
    crowd = int(ignored)  # any number of found boxes may lie on it, and none of them counts
    return {
        "id": number,
        "bbox": [box.x0, box.y0, box.x1 - box.x0, box.y1 - box.y0],
        "area": box.area,
        "iscrowd": crowd,
        "ignore": crowd,
    }


def _found(number: int, row: NDArray[np.float64]) -> dict[str, object]:
    x0, y0, x1, y1 = (float(value) for value in row[:4])
    size = (x1 - x0) * (y1 - y0)
    return {"id": number, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": size, "score": float(row[5])}


def _checked(
    found: Sequence[FloatArray],
    truth: Sequence[Boxes],
    names: tuple[str, ...],
    rare: tuple[int, ...],
) -> list[NDArray[np.float64]]:
    """The found boxes that are some."""
    if len(found) != len(truth) or not len(truth):
        raise ShapeError(
            f"found boxes of {len(found)} images and true ones of {len(truth)}; expected as many, "
            "and one image at least"
        )
    if rare and not 0 <= rare[0] <= rare[-1] < len(names):
        raise ShapeError(f"found tail classes {list(rare)}; expected numbers in [0, {len(names)})")
    rows = [np.asarray(one, dtype=np.float64) for one in found]
    for one in rows:
        if one.ndim != 2 or one.shape[1] != 6 or not np.isfinite(one).all():
            raise ShapeError(
                f"found boxes {one.shape} of an image; expected (D, 6) finite numbers: corners, "
                "class, confidence"
            )
    rows = [one[one[:, 5] > 0] for one in rows]
    if any(len(one) and not 0 <= one[:, 4].min() <= one[:, 4].max() < len(names) for one in rows):
        raise ShapeError(f"found a box of a class outside [0, {len(names)})")
    return rows


def _means(aps: NDArray[np.float64]) -> NDArray[np.float64]:
    """(R,) mean over the classes that are in each resample; NaN where none is."""
    there = np.isfinite(aps)
    sums = np.where(there, aps, 0.0).sum(axis=1)
    means: NDArray[np.float64] = np.divide(
        sums, there.sum(axis=1), out=np.full(len(aps), np.nan), where=there.any(axis=1)
    )
    return means


def _interval(drawn: NDArray[np.float64]) -> tuple[float, float]:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.percentile(known, _OUTSIDE)
    return float(low), float(high)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _absent(names: list[str]) -> tuple[str, ...]:
    if not names:
        return ()
    has, is_ = ("has", "is") if len(names) == 1 else ("have", "are")
    return (f"{', '.join(names)} {has} no true box here and {is_} left out of every mean",)
