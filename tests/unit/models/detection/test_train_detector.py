"""Training a detector from nothing, and its last convolution alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import models.recipes.train_detector as module
from models.backbones.detector import Detector, DetectorSpec
from models.config import DetectorTraining, RecalibrationConfig
from models.detection.boxes import Box, Boxes, array, overlaps
from models.detection.matching import label
from models.detection.recalibration import RecalibratedConvolution
from models.detection.slots import Layout
from models.errors import ModelError, NotEnoughLabels, ShapeError
from models.recipes.box_set import trunk_maps
from models.recipes.recalibrate_detector import recalibrate_detector
from models.recipes.train_detector import train_detector
from models.types import Examples
from tests.unit.models.detection.drawn import NAMES, drawn, tiny

SPEC = DetectorSpec(class_names=NAMES, input_size=64, width=16)
QUICK = DetectorTraining(steps=6, batch=4, warm_up=2, checkpoint_every=2)


def train(run_dir: Path, config: DetectorTraining = QUICK, seed: int = 0) -> Detector:
    images, boxes = drawn(12)
    return train_detector(
        images, boxes, class_names=NAMES, spec=SPEC, config=config, run_dir=run_dir, seed=seed
    )


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Detector:
    images, boxes = drawn(40)
    return train_detector(
        images,
        boxes,
        class_names=NAMES,
        spec=SPEC,
        config=DetectorTraining(steps=220, batch=8, learning_rate=3e-3),
        run_dir=tmp_path_factory.mktemp("run"),
        seed=0,
    )


def rows(detector: Detector, count: int, seed: int) -> tuple[Examples, list[Boxes]]:
    images, boxes = drawn(count, seed=seed)
    batch = torch.stack([detector.preprocess(image) for image in images])
    features, said = detector.embed(batch)
    return Examples(np.arange(count, dtype=np.int64), features, said), boxes


def test_it_finds_what_it_was_taught(taught: Detector) -> None:
    examples, boxes = rows(taught, 20, seed=9)
    slots = Layout.of(examples, 2).detections(examples)
    right = total = 0
    for picture, some in enumerate(boxes):
        mine = slots.take(slots.picture == picture)
        shared = overlaps(array(some), mine.boxes)
        for number, box in enumerate(some):
            total += 1
            best = int(shared[number].argmax())
            named = NAMES[int(mine.logits[best].argmax())]
            right += shared[number, best] > 0.5 and named == box.label
    assert right / total > 0.85


def test_a_killed_run_comes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(done: int, total: int, message: str = "") -> None:
        if done == 5:
            raise KilledError

    images, boxes = drawn(12)
    with pytest.raises(KilledError):
        train_detector(
            images, boxes, class_names=NAMES, spec=SPEC, config=QUICK,
            run_dir=tmp_path / "killed", seed=0, progress=kill,
        )  # fmt: skip
    again = train(tmp_path / "killed")
    assert again.fingerprint == whole.fingerprint
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_another_seed_is_another_detector(tmp_path: Path) -> None:
    assert train(tmp_path / "a").fingerprint != train(tmp_path / "b", seed=1).fingerprint


def test_every_picture_is_seen_once_before_any_a_second_time() -> None:
    seen = torch.cat([module._rows(5, step, 2, seed=3) for step in range(1, 6)])
    assert sorted(seen[:5].tolist()) == sorted(seen[5:].tolist()) == [0, 1, 2, 3, 4]


def test_a_frozen_trunk_stays_as_it_is(tmp_path: Path) -> None:
    frozen = train(tmp_path, QUICK.model_copy(update={"trunk": "frozen"}))
    fresh = module.load_detector(SPEC)
    before = fresh.network.backbone.stages.state_dict()
    for name, value in frozen.network.backbone.stages.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(
        frozen.network.last_convolution.weight, fresh.network.last_convolution.weight
    )


def test_a_kept_trunk_and_a_computed_one_train_alike(tmp_path: Path) -> None:
    # Maps are kept in half precision, so the weights agree to that.
    kept = train(tmp_path / "kept", QUICK.model_copy(update={"trunk": "frozen", "flip": False}))
    none = QUICK.model_copy(update={"trunk": "frozen", "flip": False, "cache_mb": 0})
    again = train(tmp_path / "computed", none)
    one, other = kept.network.last_convolution.weight, again.network.last_convolution.weight
    assert torch.allclose(one, other, atol=2e-3)
    assert not torch.equal(one, other)


def test_maps_of_mirror_images_lie_beside_those_of_pictures() -> None:
    detector = tiny()
    images = drawn(3)[0]
    pixels = torch.stack([detector.pixels(image) for image in images])
    maps = trunk_maps(detector, pixels)
    turned = torch.stack([detector.pixels(image.transpose(0)) for image in images])
    assert maps[0].shape[:2] == (2, 3)
    assert torch.allclose(maps[1][1].float(), trunk_maps(detector, turned)[1][0].float(), atol=1e-2)


def test_pictures_without_a_box_of_the_classes_teach_nothing(tmp_path: Path) -> None:
    images, _ = drawn(3)
    with pytest.raises(NotEnoughLabels, match="draw some"):
        train_detector(
            images, [(Box("other", 0, 0, 1, 1),), (), ()], class_names=NAMES, spec=SPEC,
            config=QUICK, run_dir=tmp_path, seed=0,
        )  # fmt: skip


def test_a_damaged_picture_is_left_out(tmp_path: Path) -> None:
    images, boxes = drawn(5)
    line = Image.new("RGB", (9000, 2))
    found = train_detector(
        [*images, line], [*boxes, ()], class_names=NAMES, spec=SPEC, config=QUICK,
        run_dir=tmp_path / "with", seed=0,
    )  # fmt: skip
    without = train_detector(
        images, boxes, class_names=NAMES, spec=SPEC, config=QUICK,
        run_dir=tmp_path / "without", seed=0,
    )  # fmt: skip
    assert found.fingerprint == without.fingerprint
    with pytest.raises(NotEnoughLabels, match="in 0 labeled pictures"):
        train_detector(
            [line], boxes[:1], class_names=NAMES, spec=SPEC, config=QUICK,
            run_dir=tmp_path / "none", seed=0,
        )  # fmt: skip


def test_each_picture_needs_its_boxes(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="3 pictures and 1 sets"):
        train_detector(
            drawn(3)[0], [()], class_names=NAMES, spec=SPEC, config=QUICK, run_dir=tmp_path, seed=0
        )


def test_one_class_is_enough(tmp_path: Path) -> None:
    images, boxes = drawn(4, rare=0)
    found = train_detector(
        images, boxes, class_names=("red",), spec=SPEC, config=QUICK, run_dir=tmp_path, seed=0
    )
    assert found.class_names == ("red",)


def test_a_step_size_that_explodes_is_told(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"learning_rate": 1e12, "warm_up": 0})
    with pytest.raises(ModelError, match="diverged at step"):
        train(tmp_path, config)


@pytest.mark.parametrize("over", ["detections", "anchors"])
def test_a_fresh_last_convolution_learns_what_the_old_one_knew(taught: Detector, over: str) -> None:
    before = {k: v.clone() for k, v in taught.network.state_dict().items()}
    examples, boxes = rows(taught, 30, seed=3)
    layout = Layout.of(examples, 2)
    known = label(layout.detections(examples), boxes, NAMES)
    config = RecalibrationConfig(form="paper", min_steps=300)
    if over == "detections":
        layer = RecalibratedConvolution.fit(
            known, num_classes=2, patch_size=layout.patch, config=config
        )
    else:
        images, boxes = drawn(30, seed=3)
        pixels = torch.stack([taught.pixels(image) for image in images])
        layer = recalibrate_detector(taught, pixels, boxes, config=config)
    again, there = rows(taught, 20, seed=11)
    slots = layout.detections(again)
    truth = label(slots, there, NAMES)
    objects = truth.targets < 2
    said = layer.logits(truth.slots.take(objects)).argmax(axis=1)
    assert (said == truth.targets[objects]).mean() > 0.9
    for name, value in taught.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_without_an_object_there_is_no_layer(taught: Detector) -> None:
    examples, boxes = rows(taught, 4, seed=3)
    slots = Layout.of(examples, 2).detections(examples)
    with pytest.raises(NotEnoughLabels, match="none of the detections"):
        RecalibratedConvolution.fit(
            label(slots, [() for _ in boxes], NAMES), num_classes=2, patch_size=9
        )


def test_a_layer_of_another_detector_is_refused(taught: Detector) -> None:
    examples, _ = rows(taught, 2, seed=3)
    slots = Layout.of(examples, 2).detections(examples)
    wide = RecalibratedConvolution(np.zeros((9999, 18)), np.zeros(18), 2)
    with pytest.raises(ShapeError, match="another frozen model"):
        wide.logits(slots)
