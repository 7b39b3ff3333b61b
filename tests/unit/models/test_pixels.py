"""Pictures as a training takes them, and heads that are put into networks."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from models.backbones import Backbone, BackboneSpec, load_backbone
from models.backbones.networks import set_head
from models.errors import ConfigError
from models.networks.cosine_head import CosineLinear, last_linear
from models.recipes.evaluate import embed_pictures, pictures_of

SPEC = BackboneSpec(architecture="cnn4", num_classes=3)


def _as_it_was(backbone: Backbone, image: Image.Image) -> torch.Tensor:
    """``preprocess`` of before pictures were kept as bytes."""
    size, shorter = backbone.recipe.input_size, backbone.recipe.resize
    width, height = image.size
    scale = shorter / min(width, height)
    to = (max(size, round(width * scale)), max(size, round(height * scale)))
    rgb = image.resize(to, Image.Resampling.BILINEAR, reducing_gap=2.0)
    left, top = (to[0] - size) // 2, (to[1] - size) // 2
    rgb = rgb.crop((left, top, left + size, top + size))
    values = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).to(torch.float32).div_(255)
    mean, std = torch.tensor(backbone.mean), torch.tensor(backbone.std)
    return values.sub_(mean.view(3, 1, 1)).div_(std.view(3, 1, 1)).contiguous()


@pytest.mark.parametrize("architecture", ["cnn4", "squeezenet1_1"])
def test_preprocessing_is_that_of_the_pixels_bit_by_bit(
    architecture: str, picture: Image.Image
) -> None:
    spec = BackboneSpec(architecture=architecture, feature_layer="features", input_size=32)
    backbone = load_backbone(spec)
    pixels = backbone.pixels(picture)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 32, 32))
    assert pixels.is_contiguous()
    ready = backbone.preprocess(picture)
    assert torch.equal(ready, _as_it_was(backbone, picture))
    assert torch.equal(ready, backbone.scaled(pixels))
    assert torch.equal(backbone.scaled(torch.stack([pixels] * 2))[1], ready)


def test_pictures_are_embedded_as_one_by_one(picture: Image.Image) -> None:
    backbone = load_backbone(SPEC.model_copy(update={"class_names": ("a", "b", "c")}))
    images = [picture.rotate(angle) for angle in range(70)]
    pictures = pictures_of(backbone, images)
    assert pictures.shape == (70, 3, 32, 32)
    features, logits = embed_pictures(backbone, pictures)
    one, own = backbone.embed(backbone.preprocess(images[69])[None])
    assert logits is not None
    assert own is not None
    np.testing.assert_allclose(features[69:], one, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits[69:], own, rtol=1e-4, atol=1e-6)
    assert embed_pictures(backbone, pictures[:0])[0].shape == (0, 256)


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize(
    "architecture", ["cnn4", "resnet32", "mobilenet_v3_small", "own_networks:make_network"]
)
def test_a_new_head_is_saved_and_loaded(
    architecture: str, head: Literal["linear", "cosine"], tmp_path: Path
) -> None:
    spec = BackboneSpec(
        architecture=architecture,
        num_classes=5,
        class_names=tuple("abcde"),
        input_size=32,
        head=head,
        head_scale=12.0,
    )
    backbone = load_backbone(spec)
    assert isinstance(last_linear(backbone.network)[1], CosineLinear) == (head == "cosine")
    backbone.save(tmp_path / "model")
    loaded = Backbone.load(tmp_path / "model")
    assert loaded.fingerprint == backbone.fingerprint
    assert loaded.class_names == tuple("abcde")
    batch = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.network(batch), backbone.network(batch))
    if head == "cosine":
        assert loaded.network(batch).abs().max() <= 12.0001
        assert loaded.linear_head() is None
        other = load_backbone(spec.model_copy(update={"head_scale": 13.0}))
        assert other.fingerprint != backbone.fingerprint
    else:
        assert loaded.linear_head() is not None


def test_fingerprints_of_networks_with_their_own_head_stay_what_they_were() -> None:
    # Of before heads could be replaced: cached features carry them.
    backbone = load_backbone(SPEC)
    about = ["cnn4", None, backbone.recipe.model_dump(mode="json")]
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, value in sorted(backbone.network.state_dict().items()):
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.numpy().tobytes())
    assert backbone.fingerprint == digest.hexdigest()


def test_a_cosine_head_comes_with_a_weights_file(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"head": "cosine", "seed": 4})
    source = load_backbone(spec)
    path = tmp_path / "weights.safetensors"
    save_file({k: v.clone() for k, v in source.network.state_dict().items()}, path)
    again = load_backbone(spec.model_copy(update={"weights": str(path), "num_classes": 9}))
    assert again.fingerprint == source.fingerprint


def test_a_head_that_fits_is_left_alone() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    before = network[1]
    assert set_head(network, "own", 7)[1] is before
    assert set_head(network, "linear", 3)[1] is before
    assert set_head(network, "linear", 4)[1].out_features == 4
    cosine = set_head(network, "cosine", 4, scale=20.0)[1]
    assert set_head(network, "cosine", 4, scale=20.0)[1] is cosine
    assert set_head(network, "cosine", 4, scale=10.0)[1].scale == 10.0
    assert type(set_head(network, "linear", 4)[1]) is nn.Linear


def test_a_linear_head_has_a_bias_whatever_was_there() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    assert set_head(network, "linear", 3)[1].bias is not None


def test_a_network_without_linear_layers_gets_no_head() -> None:
    with pytest.raises(ConfigError, match="no Linear"):
        load_backbone(BackboneSpec(architecture="own_networks:NoLinear", head="linear"))
