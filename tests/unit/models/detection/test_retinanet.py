"""The network: its stages, its anchors, and places that teach nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.retinanet import RetinaNet

from models.backbones.networks import BackboneSpec, build
from models.errors import ConfigError
from models.networks.feature_pyramid import STRIDES, Pyramid, Stages
from models.networks.retinanet import LEVELS, Retina, reset


def trunk(name: str) -> torch.nn.Module:
    return build(BackboneSpec(architecture=name, num_classes=2))[0].eval()


def retina(classes: int = 3) -> Retina:
    torch.manual_seed(0)
    return Retina(Pyramid(trunk("trunk5"), 8), classes)


@pytest.mark.parametrize(
    "name",
    ["trunk5", "efficientnet_lite0", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5"],
)
def test_stages_of_an_architecture_have_their_strides(name: str) -> None:
    stages = Stages(trunk(name))
    with torch.inference_mode():
        maps = stages(torch.zeros(2, 3, 96, 160))
    assert [tuple(one.shape[2:]) for one in maps] == [(96 // s, 160 // s) for s in STRIDES]
    assert [one.shape[1] for one in maps] == list(stages.channels)


def test_a_stage_ends_with_the_last_block_of_its_stride() -> None:
    assert Stages(trunk("resnet18")).names == ("layer2.1", "layer3.1", "layer4.1")
    assert Stages(trunk("efficientnet_lite0")).channels == (40, 112, 320)


def test_a_network_without_coarse_maps_is_refused() -> None:
    with pytest.raises(ConfigError, match="stride 16, 32"):
        Stages(trunk("cnn4"))


def test_anchors_are_nine_a_place_over_all_levels() -> None:
    network = retina().eval()
    places = sum(math.ceil(96 / stride) ** 2 for stride in LEVELS)
    anchors = network.anchors_of(96)
    assert network.anchors_per_place == 9
    assert anchors.shape == (9 * places, 4)
    with torch.inference_mode():
        looked = network.look(torch.zeros(1, 3, 96, 96))
    assert looked.logits.shape == (1, 9 * places, 3)
    assert looked.boxes.shape == (1, 9 * places, 4)


def test_logits_are_laid_out_as_torchvision_does() -> None:
    network = retina().eval()
    maps = [torch.randn(2, 8, side, side) for side in (6, 3)]
    head = network.head.classification_head
    with torch.inference_mode():
        wanted = head(maps)
        found = torch.cat([network.flat(head.cls_logits(head.conv(one))) for one in maps], dim=1)
    assert torch.equal(found, wanted)


def test_a_fresh_network_expects_an_object_in_a_hundred_places() -> None:
    with torch.inference_mode():
        looked = retina().eval().look(torch.zeros(1, 3, 64, 64))
    assert float(torch.sigmoid(looked.logits).mean()) == pytest.approx(0.01, rel=0.2)


def test_reset_makes_the_last_convolution_anew() -> None:
    layer = torch.nn.Conv2d(64, 27, 3)
    reset(layer)
    assert layer.bias is not None
    assert layer.bias.tolist() == pytest.approx([-math.log(99)] * 27)
    assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05)


def boxed(boxes: list[list[float]], unknown: list[list[float]] | None = None) -> dict[str, Tensor]:
    target = {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.zeros(len(boxes), dtype=torch.int64),
    }
    if unknown is not None:
        target["unknown"] = torch.tensor(unknown).reshape(-1, 4)
    return target


def test_matches_are_torchvisions_where_nothing_is_unknown() -> None:
    network = retina()
    anchors = network.anchors_of(96)
    target = boxed([[10, 10, 50, 50], [40, 30, 90, 90]])
    images = torch.zeros(1, 3, 96, 96)
    said = network.head(network.backbone(images))
    ours = network.compute_loss([target], said, [anchors])
    theirs = RetinaNet.compute_loss(network, [target], said, [anchors])
    for name, value in theirs.items():
        assert torch.equal(ours[name], value)


def test_an_unknown_place_is_no_background() -> None:
    network = retina()
    anchors = network.anchors_of(96)
    rows = network.matches([boxed([], [[0, 0, 48, 96]])], [anchors])[0]
    middle = (anchors[:, 0] + anchors[:, 2]) / 2
    inside = (anchors[:, 2] - anchors[:, 0] < 40) & (middle < 40) & (middle > 20)
    height = (anchors[:, 1] + anchors[:, 3]) / 2
    inside &= (height > 20) & (height < 76)
    far = anchors[:, 0] > 60
    assert bool((rows[inside] == network.proposal_matcher.BETWEEN_THRESHOLDS).all())
    assert bool((rows[far] == -1).all())


def test_what_lies_in_an_unknown_place_does_not_change_the_loss() -> None:
    network = retina().train()
    images = torch.zeros(1, 3, 96, 96)
    said = network.head(network.backbone(images))
    anchors = [network.anchors_of(96)]
    target = boxed([[60, 60, 90, 90]], [[0, 0, 40, 40]])
    before = network.compute_loss([target], said, anchors)["classification"]
    rows = network.matches([target], anchors)[0]
    loud = {**said, "cls_logits": said["cls_logits"].clone()}
    loud["cls_logits"][0, rows == network.proposal_matcher.BETWEEN_THRESHOLDS] = 9.0
    after = network.compute_loss([target], loud, anchors)["classification"]
    assert torch.allclose(before, after)


def test_known_stages_give_the_same_as_pictures() -> None:
    network = retina().eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        stages = network.backbone.stages(images)
        one, other = network.look(images), network.look(torch.empty_like(images), stages=stages)
    assert torch.equal(one.logits, other.logits)
    assert torch.equal(one.boxes, other.boxes)


def test_training_without_targets_is_refused() -> None:
    with pytest.raises(ValueError, match="one for each picture"):
        retina().train()(torch.zeros(1, 3, 96, 96))
