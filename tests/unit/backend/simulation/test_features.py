from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backend.simulation.features import FeatureCache, Features
from backend.simulation.images import LabeledImage, read_folder
from models.backbones import Backbone, BackboneSpec, load_backbone
from tests.unit.backend.simulation.squares_on_disk import square, write_squares

TINY = "tests.unit.models.own_networks:TinyNetwork"


class Steep(nn.Module):
    """Features too large for half precision where there is any red."""

    def __init__(self) -> None:
        super().__init__()
        self.input_size = 8
        self.mean, self.std = (0.0,) * 3, (1.0,) * 3
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.head(images.mean(dim=(2, 3)) * torch.tensor([2e5, 1, 1]))
        return out


@pytest.fixture
def backbone() -> Backbone:
    return load_backbone(BackboneSpec(architecture=TINY))


def _features(
    folder: Path,
    backbone: Backbone,
    images: tuple[LabeledImage, ...],
    told: list[int] | None = None,
) -> Features:
    return FeatureCache(folder, backbone).features(
        images,
        max_pixels=1000,
        batch=2,
        chunk=3,
        threads=2,
        progress=lambda done, total, message="": (told if told is not None else []).append(done),
    )


def test_images_are_embedded_once(tmp_path: Path, backbone: Backbone) -> None:
    images = read_folder(write_squares(tmp_path / "in", red=4, blue=4), max_bytes=10_000).images
    told: list[int] = []
    first = _features(tmp_path / "cache", backbone, images, told)
    assert first.embedded == 8
    assert first.rows.tolist() == list(range(8))
    assert first.features.shape == (8, backbone.feature_size)
    assert first.features.dtype == np.float16
    assert first.logits is not None
    assert first.logits.shape == (8, 3)
    assert told[0] == 0
    assert told[-1] == 8
    assert told == sorted(told)
    again = _features(tmp_path / "cache", backbone, images[::-1])
    assert again.embedded == 0
    assert (again.features[::-1] == first.features).all()
    assert again.logits is not None
    assert (again.logits[::-1] == first.logits).all()


def test_only_what_is_new_is_embedded(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_squares(tmp_path / "in", red=4)
    _features(tmp_path / "cache", backbone, read_folder(folder, max_bytes=10_000).images)
    (folder / "red" / "100.png").write_bytes(square("blue", 9))
    (folder / "red" / "002.png").write_bytes(square("green", 9) + b" ")  # another size, another key
    images = read_folder(folder, max_bytes=10_000).images
    found = _features(tmp_path / "cache", backbone, images)
    assert found.embedded == 2
    fresh = _features(tmp_path / "other", backbone, images)
    assert fresh.embedded == 5
    assert np.allclose(found.features, fresh.features, atol=1e-3)


def test_another_model_has_its_own_features(tmp_path: Path, backbone: Backbone) -> None:
    images = read_folder(write_squares(tmp_path / "in", red=2), max_bytes=10_000).images
    _features(tmp_path / "cache", backbone, images)
    other = load_backbone(BackboneSpec(architecture=TINY, seed=1))
    assert _features(tmp_path / "cache", other, images).embedded == 2


def test_bad_images_are_left_out_with_their_reason(tmp_path: Path, backbone: Backbone) -> None:
    folder = write_squares(tmp_path / "in", red=3)
    (folder / "red" / "001.png").write_bytes(square("red", 1)[:90])
    (folder / "red" / "002.png").write_bytes(b"<html>")
    images = read_folder(folder, max_bytes=10_000).images
    found = _features(tmp_path / "cache", backbone, images)
    assert found.rows.tolist() == [0]
    assert set(found.failures) == {1, 2}
    assert "a web page" in found.failures[2]
    assert _features(tmp_path / "cache", backbone, images).failures == found.failures


def test_features_beyond_half_precision_are_left_out(tmp_path: Path) -> None:
    network = Steep()
    folder = write_squares(tmp_path / "in", red=1, blue=1)
    images = read_folder(folder, max_bytes=10_000).images
    recipe = load_backbone(BackboneSpec(architecture=f"{__name__}:Steep")).recipe
    spec = BackboneSpec(architecture=f"{__name__}:Steep")
    backbone = Backbone(network, spec=spec, recipe=recipe, class_names=None)
    found = _features(tmp_path / "cache", backbone, images)
    assert found.rows.tolist() == [0]
    assert found.logits is None
    assert "half precision" in found.failures[1]


def test_a_damaged_cache_costs_time_only(
    tmp_path: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    images = read_folder(write_squares(tmp_path / "in", red=7), max_bytes=10_000).images
    first = _features(tmp_path / "cache", backbone, images)
    chunks = sorted((tmp_path / "cache").rglob("*.npz"))
    assert len(chunks) == 3
    chunks[0].write_bytes(chunks[0].read_bytes()[:100])
    chunks[1].write_bytes(b"")
    again = _features(tmp_path / "cache", backbone, images)
    assert again.embedded == 6
    assert (again.features == first.features).all()
    assert caplog.text.count("is damaged") == 2
    assert _features(tmp_path / "cache", backbone, images).embedded == 0
    assert caplog.text.count("is damaged") == 2
