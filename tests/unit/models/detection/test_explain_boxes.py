"""Why pictures with boxes are taken for rare."""

from __future__ import annotations

import numpy as np
import pytest

from models.detection.boxes import Box, to_text
from models.recipes.explain import explain
from models.tasks.base import LabeledTexts
from models.types import ClassSpace, Examples
from tests.unit.models.detection.test_detection_miner import (
    LABELED,
    NAMES,
    POOL,
    RARE,
    TOP,
    fit,
)

KNOWN = LabeledTexts(LABELED.examples, tuple(to_text(boxes) for boxes in LABELED.boxes))
AT = {100 + number: kind for number, kind in RARE.items()}


def test_the_rare_box_decides_and_its_like_are_named() -> None:
    miner = fit()
    said = dict(zip(POOL.ids.tolist(), explain(miner, POOL, KNOWN), strict=True))
    usual = [one.error for task, one in said.items() if task not in AT and one.error is not None]
    for task, kind in AT.items():
        one = said[task]
        (decides,) = [box for box in one.detections if box.decides]
        assert decides.corners == pytest.approx((0.6, 0.1, 0.75, 0.4)), "the third of its boxes"
        assert decides.rarity is not None
        assert decides.rarity > max(b.rarity or 0 for b in one.detections if not b.decides)
        alike = {3, 9} if kind == 1 else {20, 31}
        assert {near.id for near in one.nearest[:2]} == alike
        assert {near.target for near in one.nearest[:2]} == {kind}
        assert one.error is not None
        assert one.error > np.median(usual)
        assert one.error_above is not None
        assert one.tail_mass is not None
        assert 0 < one.tail_mass < 1


def test_detections_come_surest_first() -> None:
    (one, *_) = explain(fit(), POOL, KNOWN)
    sure = [box.confidence for box in one.detections]
    assert sure == sorted(sure, reverse=True)
    assert 0 < len(sure) <= TOP
    assert one.detections[0].target == NAMES.index("common")


def test_before_anything_is_fitted_the_likeliest_of_a_tail_class_decides() -> None:
    miner = fit("diversity", LABELED, min_labels=1000)
    assert miner.judge_of_boxes is None
    (one, *_) = explain(miner, POOL, KNOWN)
    assert one.error is None
    assert sum(box.decides for box in one.detections) == 1
    assert one.nearest


def test_without_a_tail_there_are_only_detections() -> None:
    (one, *_) = explain(fit(classes=ClassSpace(NAMES, ())), POOL, KNOWN)
    assert (one.tail_mass, one.error, one.nearest) == (None, None, ())
    assert one.detections
    assert not any(box.decides for box in one.detections)


def test_where_no_labeled_box_is_found_whole_pictures_are_compared() -> None:
    moved = [
        to_text([Box(b.label, b.x0, b.y0 + 0.5, b.x1, b.y1 + 0.5) for b in boxes])
        for boxes in LABELED.boxes
    ]
    (one, *_) = explain(fit(), POOL, LabeledTexts(LABELED.examples, tuple(moved)))
    assert len(one.nearest) == 3
    assert {near.id for near in one.nearest} <= {3, 9, 20, 31}
    assert all((near.target == 1) == (near.id in {3, 9}) for near in one.nearest)


def test_a_picture_without_detections_has_no_reason() -> None:
    assert POOL.logits is not None
    logits = POOL.logits.copy()
    logits.reshape(len(POOL), 1 + TOP, -1)[0, 1:, 4] = 0
    empty, other, *_ = explain(fit(), Examples(POOL.ids, POOL.features, logits), KNOWN)
    assert (empty.detections, empty.nearest, empty.tail_mass) == ((), (), None)
    assert other.detections
