"""Which detectors are promoted, and why not."""

from __future__ import annotations

import numpy as np
import pytest

from models.detection.coco import BoxFigures, BoxMetrics
from models.errors import ShapeError
from models.recipes.judge_boxes import judge_boxes, too_few_boxes

NAMES = ("red", "blue", "green")


def metrics(
    *aps: float | None, tail: tuple[int, ...] = (1,), half: float = 0.1, boxes: int = 12
) -> BoxMetrics:
    classes = tuple(
        BoxFigures(
            name=name,
            boxes=0 if ap is None else boxes,
            images=0 if ap is None else boxes,
            found=boxes,
            ap=ap,
            ap_50=ap,
            ar=ap,
            low=0.0 if ap is None else max(ap - half, 0.0),
            high=1.0 if ap is None else min(ap + half, 1.0),
        )
        for name, ap in zip(NAMES, aps, strict=False)
    )
    there = [c.ap for c in classes if c.ap is not None]
    rare = [classes[k].ap for k in tail if classes[k].ap is not None]
    mean = float(np.mean(there))
    return BoxMetrics(
        classes=classes,
        tail=tail,
        images=20,
        boxes=boxes * len(there),
        mean_ap=mean,
        low=mean - half,
        high=mean + half,
        mean_ap_50=mean,
        mean_ar=mean,
        tail_ap=float(np.mean(rare)) if rare else None,
        tail_ar=None,
    )


def test_a_higher_ap_of_the_rare_is_promoted() -> None:
    verdict = judge_boxes(metrics(0.6, 0.2), metrics(0.58, 0.4))
    assert verdict.promoted
    assert verdict.compared == "held-out"
    assert verdict.reasons == (
        "promoted: mean AP of the rare classes rose from .20 to .40 (12 boxes)",
        "AP of blue rose from .20 to .40 (12 boxes)",
        "mean AP of all classes rose from .40 to .49 (24 boxes)",
    )


@pytest.mark.parametrize("after", [0.2, 0.15])
def test_no_rise_is_rejected(after: float) -> None:
    verdict = judge_boxes(metrics(0.6, 0.2), metrics(0.9, after))
    assert not verdict.promoted
    words = "stayed at .20" if after == 0.2 else "fell from .20 to .15"
    assert verdict.reasons[0] == f"rejected: mean AP of the rare classes {words} (12 boxes)"


def test_one_rare_class_may_not_fall_beyond_its_interval() -> None:
    verdict = judge_boxes(metrics(0.6, 0.5, 0.1, tail=(1, 2)), metrics(0.6, 0.39, 0.9, tail=(1, 2)))
    assert not verdict.promoted
    assert verdict.reasons[0] == (
        "rejected: AP of blue fell from .50 to .39 (12 boxes, interval .40 to .60)"
    )
    within = judge_boxes(metrics(0.6, 0.5, 0.1, tail=(1, 2)), metrics(0.6, 0.41, 0.9, tail=(1, 2)))
    assert within.promoted


def test_the_rare_are_not_bought_with_all_others() -> None:
    verdict = judge_boxes(metrics(0.9, 0.2), metrics(0.5, 0.3))
    assert not verdict.promoted
    assert "mean AP of all classes fell from .55 to .40" in verdict.reasons[0]
    assert "interval .45 to .65" in verdict.reasons[0]


def test_without_rare_classes_the_mean_decides() -> None:
    better = judge_boxes(metrics(0.5, 0.5, tail=()), metrics(0.5, 0.6, tail=()))
    assert better.promoted
    assert better.reasons == ("promoted: mean AP of all classes rose from .50 to .55 (24 boxes)",)
    assert not judge_boxes(metrics(0.5, 0.5, tail=()), metrics(0.5, 0.5, tail=())).promoted


def test_a_rare_class_without_truth_cannot_speak() -> None:
    verdict = judge_boxes(metrics(0.5, None), metrics(0.6, None))
    assert not verdict.promoted


def test_figures_of_other_pictures_are_refused() -> None:
    with pytest.raises(ShapeError, match="different boxes"):
        judge_boxes(metrics(0.5, 0.5), metrics(0.5, 0.5, boxes=13))
    with pytest.raises(ShapeError, match="tail classes"):
        judge_boxes(metrics(0.5, 0.5), metrics(0.5, 0.5, tail=(0,)))


@pytest.mark.parametrize(
    ("boxes", "pictures", "tail", "said"),
    [
        ((9, 5, 0), (9, 3, 0), (1,), ()),
        ((9, 4, 0), (9, 3, 0), (1,), ("blue has 4 boxes on 3 pictures to compare on, 5 boxes",)),
        ((9, 9, 0), (9, 1, 0), (1,), ("blue has 9 boxes on 1 picture to compare on",)),
        ((9, 1, 0), (9, 1, 0), (1, 2), ("blue has 1 box on 1 picture", "green has 0 boxes")),
        ((9, 1, 0), (9, 1, 0), (), ()),
        ((4, 4, 0), (4, 4, 0), (), ("found 8 boxes to compare on, of one class 5",)),
    ],
)
def test_too_few_boxes_are_named(
    boxes: tuple[int, ...], pictures: tuple[int, ...], tail: tuple[int, ...], said: tuple[str, ...]
) -> None:
    found = too_few_boxes(np.array(boxes), np.array(pictures), class_names=NAMES, tail=tail)
    assert len(found) == len(said)
    for sentence, words in zip(found, said, strict=True):
        assert sentence.startswith(words)


def test_too_few_boxes_promote_nothing() -> None:
    few = ("blue has 4 boxes",)
    verdict = judge_boxes(metrics(0.5, 0.1), metrics(0.5, 0.9), few)
    assert (verdict.promoted, verdict.compared) == (False, "nothing")
    assert verdict.reasons[0] == "rejected: blue has 4 boxes"
