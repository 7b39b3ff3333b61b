"""The frozen detector: pictures in, rows of slots out, and the same again from its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from models.backbones.detector import Detector, DetectorSpec, choose, extents, load_detector
from models.detection.slots import Layout
from models.errors import CorruptVersion, ImageError, ShapeError, WeightsError
from models.types import Examples
from tests.unit.models.detection.drawn import drawn, tiny


@pytest.fixture(scope="module")
def detector() -> Detector:
    return tiny()


def embedded(detector: Detector, images: list[Image.Image]) -> Examples:
    batch = torch.stack([detector.preprocess(image) for image in images])
    features, said = detector.embed(batch)
    return Examples(np.arange(len(images), dtype=np.int64), features, said)


def test_a_picture_keeps_its_shape_at_the_top_left(detector: Detector) -> None:
    image = Image.new("RGB", (200, 100), (255, 0, 0))
    pixels = detector.pixels(image)
    assert pixels.shape == (4, 64, 64)
    assert extents(pixels[None]).tolist() == [[64, 32]]
    assert pixels[0, 31, 63] == 255
    assert int(pixels[:, 32:].sum()) == 0


def test_where_no_picture_is_the_network_sees_the_mean_colour(detector: Detector) -> None:
    scaled = detector.preprocess(Image.new("RGB", (200, 100), (255, 0, 0)))
    assert float(scaled[:3, 32:].abs().sum()) == 0.0
    assert float(scaled[3].sum()) == 64 * 32


def test_one_scales_as_many_do(detector: Detector) -> None:
    some = torch.stack([detector.pixels(image) for image in drawn(3)[0]])
    assert torch.equal(detector.scaled(some)[1], detector.scaled(some[1]))


def test_a_line_is_no_picture(detector: Detector) -> None:
    with pytest.raises(ImageError, match="too narrow"):
        detector.pixels(Image.new("RGB", (6500, 2)))


def test_rows_have_the_width_that_is_said(detector: Detector) -> None:
    rows = embedded(detector, drawn(3)[0])
    layout = Layout.of(rows, len(detector.class_names))
    assert layout == Layout(detector.slots, detector.slot_size, 2, detector.patch_size)
    assert rows.features.shape == (3, detector.feature_size)


def test_boxes_lie_in_the_picture_and_are_surest_first(detector: Detector) -> None:
    rows = embedded(detector, [Image.new("RGB", (64, 16)), *drawn(2)[0]])
    slots = Layout.of(rows, 2).detections(rows)
    assert slots.boxes.min() >= 0
    assert slots.boxes.max() <= 1
    for picture in range(3):
        sure = slots.confidence[slots.picture == picture]
        assert (np.diff(sure) <= 0).all()
        assert 1 <= len(sure) <= detector.spec.top
    assert np.allclose(slots.confidence, 1 / (1 + np.exp(-slots.logits.max(axis=1))))


def test_the_patch_is_what_the_last_convolution_saw(detector: Detector) -> None:
    rows = embedded(detector, drawn(2, seed=4)[0])
    slots = Layout.of(rows, 2).detections(rows)
    layer = detector.network.last_convolution
    flat = layer.weight.reshape(len(layer.weight), -1)
    patches = torch.from_numpy(slots.features[:, : detector.patch_size].astype(np.float32))
    assert layer.bias is not None
    said = (patches @ flat.T + layer.bias).view(len(slots), 9, 2)
    own = said[torch.arange(len(slots)), torch.from_numpy(slots.anchor)]
    assert np.allclose(own.numpy(), slots.logits, atol=1e-4)


def test_a_batch_says_the_same_as_each_alone(detector: Detector) -> None:
    images = drawn(3, seed=1)[0]
    together = embedded(detector, images)
    for number, image in enumerate(images):
        alone = embedded(detector, [image])
        assert np.allclose(together.features[number], alone.features[0], atol=1e-4)


def test_another_shape_of_batch_is_refused(detector: Detector) -> None:
    with pytest.raises(ShapeError, match=r"expected \(N, 4, S, S\)"):
        detector.embed(torch.zeros(1, 3, 64, 64))


def test_a_class_with_few_chances_keeps_a_slot() -> None:
    # Ten boxes apart from each other; all surer of class 0 than the last of class 1.
    boxes = torch.tensor([[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(10)])
    logits = torch.stack([torch.linspace(5, 1, 10), torch.full((10,), -5.0)], dim=1)
    logits[9, 1] = 0.5
    kept = choose(boxes, logits, 4)
    assert kept.tolist() == [0, 1, 2, 9]


def test_overlapping_boxes_are_kept_once() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    logits = torch.tensor([[1.0], [2.0], [0.0]])
    assert choose(boxes, logits, 5).tolist() == [1, 2]


def test_no_box_with_an_area_is_no_box() -> None:
    assert choose(torch.zeros(3, 4), torch.zeros(3, 2), 5).tolist() == []


def test_it_comes_back_from_its_folder(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "kept")
    again = Detector.load(tmp_path / "kept")
    assert again.fingerprint == detector.fingerprint
    assert again.class_names == detector.class_names
    images = drawn(2)[0]
    one, other = embedded(detector, images), embedded(again, images)
    assert np.array_equal(one.features, other.features)


def test_over_published_weights_it_comes_back_too(tmp_path: Path) -> None:
    spec = DetectorSpec(
        architecture="efficientnet_lite0", weights="DEFAULT", class_names=("a", "b"), input_size=64
    )
    made = load_detector(spec)
    made.save(tmp_path / "kept")
    assert Detector.load(tmp_path / "kept").fingerprint == made.fingerprint
    assert not any("_fc" in name for name in made.network.state_dict())


def test_damage_is_told(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "kept")
    card = json.loads((tmp_path / "kept" / "card.json").read_text())
    card["fingerprint"] = "0" * 64
    (tmp_path / "kept" / "card.json").write_text(json.dumps(card))
    with pytest.raises(CorruptVersion, match="fingerprint"):
        Detector.load(tmp_path / "kept")
    (tmp_path / "kept" / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(CorruptVersion, match="delete the folder"):
        Detector.load(tmp_path / "kept")


def test_other_classes_are_another_detector(detector: Detector) -> None:
    assert tiny(("red", "green")).fingerprint != detector.fingerprint


def test_a_small_network_stands_for_those_of_32_pixels() -> None:
    assert DetectorSpec(architecture="cnn4", class_names=("a",)).trunk == "trunk5"
    assert DetectorSpec(architecture="resnet18", class_names=("a",)).trunk == "resnet18"


def test_a_whole_detector_comes_from_a_file(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save(detector.network.state_dict(), path)
    spec = detector.spec.model_copy(update={"weights": str(path), "seed": 7})
    assert load_detector(spec).fingerprint == detector.fingerprint
    wide = spec.model_copy(update={"width": 16})
    with pytest.raises(WeightsError, match="width 16"):
        load_detector(wide)


def test_looking_leaves_the_network_as_it_is(detector: Detector) -> None:
    before = {k: v.clone() for k, v in detector.network.state_dict().items()}
    embedded(detector, drawn(2)[0])
    for name, value in detector.network.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_first_slot_pools_the_picture_and_not_its_margin(detector: Detector) -> None:
    image = drawn(1, size=(64, 32))[0][0]
    rows = embedded(detector, [image])
    whole = Layout.of(rows, 2).pictures(rows)[0, detector.patch_size :]
    with torch.inference_mode():
        maps = detector.network.backbone.stages(detector.preprocess(image)[None, :3])
    top = F.adaptive_avg_pool2d(maps[1][..., :2, :], 1).flatten()
    everything = F.adaptive_avg_pool2d(maps[1], 1).flatten()
    found = torch.from_numpy(whole[: len(top)])
    assert float((found - top).norm()) < float((found - everything).norm())
