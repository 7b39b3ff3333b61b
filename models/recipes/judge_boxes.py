"""Whether a fine-tuned detector takes the incumbent's place.

Both are measured on the same held-out pictures, which neither was fitted on. The candidate is
promoted only if the mean AP of the tail classes rises (of all classes where none is rare), no tail
class's AP falls below the lower end of the interval around the incumbent's (95 %, by pictures drawn
anew), and neither does mAP below the end of its own. A tail class with fewer than five boxes, or on
fewer than three pictures, says nothing, so then nothing is promoted. There is no cross-validation
of detectors: a training each would take too long.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.detection.coco import BoxFigures, BoxMetrics
from models.errors import ShapeError
from models.recipes.judge_finetune import ROUNDING, Verdict, moved, two_places
from models.types import IntArray

#: Fewest held-out boxes of each tail class, and pictures with one, that can speak for a candidate.
LEAST_BOXES, LEAST_PICTURES = 5, 3
_NEEDED = f"{LEAST_BOXES} boxes on {LEAST_PICTURES} pictures are needed"


def too_few_boxes(
    boxes: IntArray, pictures: IntArray, *, class_names: Sequence[str], tail: Sequence[int]
) -> tuple[str, ...]:
    """Which tail classes these pictures say nothing of, one sentence each; empty if none.

    Args:
        boxes: (K,) boxes of each class.
        pictures: (K,) pictures with a box of each class.
        class_names: K names.
        tail: indices of the tail classes; where there are none, one class must have enough.
    """
    few = {
        k: f"{class_names[k]} has {_boxes(int(boxes[k]))} on {_pictures(int(pictures[k]))} to "
        f"compare on, {_NEEDED}"
        for k in range(len(class_names))
        if boxes[k] < LEAST_BOXES or pictures[k] < LEAST_PICTURES
    }
    if not len(tail):
        if len(few) < len(class_names):
            return ()
        return (f"found {_boxes(int(boxes.sum()))} to compare on, of one class {_NEEDED}",)
    return tuple(few[k] for k in sorted({int(k) for k in tail}) if k in few)


def judge_boxes(before: BoxMetrics, after: BoxMetrics, few: Sequence[str] = ()) -> Verdict:
    """Compare two detectors by their figures on the same pictures.

    Args:
        before: of the incumbent.
        after: of the candidate.
        few: what ``too_few_boxes`` said of the pictures.
    Returns: the verdict, without the numbers of held-out boxes.
    Raises: ShapeError: if the figures are of other classes or pictures.
    """
    if [(c.name, c.boxes) for c in before.classes] != [(c.name, c.boxes) for c in after.classes]:
        raise ShapeError("found figures of different boxes; expected both on the same pictures")
    if before.tail != after.tail:
        raise ShapeError(f"found tail classes {before.tail} and {after.tail}; expected the same")
    pairs = [(before.classes[k], after.classes[k]) for k in before.tail]
    falls = [
        f"{_told(old, new)[:-1]}, interval {two_places(old.low)} to {two_places(old.high)})"
        for old, new in pairs
        if new.ap is not None and new.ap < old.low
    ]
    if after.mean_ap is not None and after.mean_ap < before.low:
        interval = f"interval {two_places(before.low)} to {two_places(before.high)}"
        falls.append(f"{_whole(before, after)[:-1]}, {interval})")
    was, now = _worth(before), _worth(after)
    rises = was is not None and now is not None and now > was + ROUNDING
    against = [*few, *falls, *([] if rises else [_rare(before, after)])]
    if against:
        reasons = (f"rejected: {against[0]}", *against[1:])
    else:
        told = [_told(old, new) for old, new in pairs] + [_whole(before, after)]
        reasons = (f"promoted: {_rare(before, after)}", *(told if pairs else ()))
    return Verdict(
        promoted=not against,
        reasons=reasons + before.notes,
        compared="nothing" if few else "held-out",
        before=before,
        after=after,
    )


def _worth(figures: BoxMetrics) -> float | None:
    return figures.tail_ap if figures.tail else figures.mean_ap


def _rare(before: BoxMetrics, after: BoxMetrics) -> str:
    if not before.tail:
        return _whole(before, after)
    count = sum(before.classes[k].boxes for k in before.tail)
    words = moved(before.tail_ap or 0.0, after.tail_ap or 0.0)
    return f"mean AP of the rare classes {words} ({_boxes(count)})"


def _whole(before: BoxMetrics, after: BoxMetrics) -> str:
    words = moved(before.mean_ap or 0.0, after.mean_ap or 0.0)
    return f"mean AP of all classes {words} ({_boxes(before.boxes)})"


def _told(old: BoxFigures, new: BoxFigures) -> str:
    return f"AP of {old.name} {moved(old.ap or 0.0, new.ap or 0.0)} ({_boxes(old.boxes)})"


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"


def _pictures(count: int) -> str:
    return f"{count} picture" if count == 1 else f"{count} pictures"
