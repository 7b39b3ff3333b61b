"""Rows of slots: packed by the detector, taken apart by the miner."""

from __future__ import annotations

import numpy as np
import pytest

from models.detection.slots import ANCHOR, CONFIDENCE, LOGITS, Layout
from models.errors import ShapeError
from models.types import Examples

SLOTS, SIZE, CLASSES, PATCH = 4, 5, 3, 2


def rows(filled: list[int]) -> Examples:
    """Pictures with so many detections each; features say picture and slot."""
    count = len(filled)
    said = np.zeros((count, SLOTS, LOGITS + CLASSES), dtype=np.float32)
    features = np.zeros((count, SLOTS, SIZE), dtype=np.float16)
    said[:, 0, ANCHOR] = PATCH
    for picture, many in enumerate(filled):
        features[picture] = 10 * picture + np.arange(SLOTS)[:, None]
        for slot in range(1, 1 + many):
            said[picture, slot, :4] = (0.1, 0.2, 0.3, 0.4)
            said[picture, slot, CONFIDENCE] = 0.9 - 0.1 * slot
            said[picture, slot, ANCHOR] = slot
            said[picture, slot, LOGITS:] = slot
    ids = np.arange(count, dtype=np.int64)
    return Examples(ids, features.reshape(count, -1), said.reshape(count, -1))


def test_a_layout_is_read_off_the_widths() -> None:
    layout = Layout.of(rows([1, 2]), CLASSES)
    assert layout == Layout(SLOTS, SIZE, CLASSES, PATCH)


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(ShapeError, match="another frozen model"):
        Layout.of(rows([1]), CLASSES + 1)


def test_features_without_what_is_said_are_refused() -> None:
    with pytest.raises(ShapeError, match="embed the images again"):
        Layout.of(Examples(np.zeros(1, np.int64), np.zeros((1, 20), np.float16)), CLASSES)


def test_detections_come_picture_after_picture_surest_first() -> None:
    slots = Layout.of(rows([2, 0, 3]), CLASSES).detections(rows([2, 0, 3]))
    assert slots.picture.tolist() == [0, 0, 2, 2, 2]
    assert slots.anchor.tolist() == [1, 2, 1, 2, 3]
    assert slots.features[:, 0].tolist() == [1, 2, 21, 22, 23]
    assert slots.logits[:, 0].tolist() == [1, 2, 1, 2, 3]
    assert slots.boxes[0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_the_surest_of_each_picture() -> None:
    some = rows([2, 0, 3])
    layout = Layout.of(some, CLASSES)
    slots = layout.detections(some)
    surest = layout.surest(some)
    assert surest.shape == (3,)
    for picture in range(3):
        told = slots.confidence[slots.picture == picture]
        assert surest[picture] == max(told, default=0)
    turned = some.take(np.array([2, 1]))
    assert layout.surest(turned).tolist() == [surest[2], surest[1]]


def test_a_view_of_pictures_is_read_as_its_own_rows() -> None:
    some = rows([2, 0, 3]).take(np.asarray([2, 0]))
    slots = Layout.of(some, CLASSES).detections(some)
    assert slots.picture.tolist() == [0, 0, 0, 1, 1]
    assert slots.features[:, 0].tolist() == [21, 22, 23, 1, 2]


def test_chunks_do_not_change_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    many = rows([1, 3, 0, 2, 2])
    whole = Layout.of(many, CLASSES).detections(many)
    monkeypatch.setattr("models.detection.slots._BATCH", 2)
    parts = Layout.of(many, CLASSES).detections(many)
    assert np.array_equal(whole.picture, parts.picture)
    assert np.array_equal(whole.features, parts.features)


def test_no_pictures_hold_no_detections() -> None:
    none = rows([1]).take(np.zeros(0, dtype=np.int64))
    slots = Layout.of(none, CLASSES).detections(none)
    assert len(slots) == 0
    assert slots.features.shape == (0, SIZE)
    assert slots.logits.shape == (0, CLASSES)


def test_the_first_slot_is_the_whole_picture() -> None:
    whole = Layout.of(rows([1, 2]), CLASSES).pictures(rows([1, 2]))
    assert whole[:, 0].tolist() == [0, 10]
