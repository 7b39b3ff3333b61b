"""A published model's own head, seen from a project's labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models as zoo

from models.backbones import Backbone, BackboneSpec, architectures, load_backbone
from models.config import MinerConfig
from models.errors import ShapeError
from models.label_head import LabelHead, find_columns, label_head
from models.recipes.fit_miner import Miner, fit_miner
from models.scorers.base import OriginalHead
from models.types import ClassSpace, Examples, LabeledExamples

MODEL = ("tabby", "sports car", "jeep", "cab", "crane", "crane", "Tabby")


def test_a_label_stands_for_the_classes_named_and_for_its_own() -> None:
    found = find_columns(
        ("Car", "jeep", "tabby", "Crane", "dog"),
        {"Car": ["cab", "sports_car", "limousine", "limousine"], "jeep": ["cab"]},
        MODEL,
    )
    assert found.of_label == ((3, 1), (2, 3), (0,), (4, 5), ())
    assert found.unknown == ("limousine",)


def test_a_label_without_a_class_leaves_no_head() -> None:
    weight, bias = np.zeros((3, 7), np.float32), np.zeros(7, np.float32)
    assert label_head(weight, bias, find_columns(("jeep", "dog"), {}, MODEL)) is None
    assert label_head(weight, bias, find_columns((), {}, MODEL)) is None
    assert label_head(weight, bias, find_columns(("jeep", "cab"), {}, MODEL)) is not None


def test_a_labels_logit_is_the_logsumexp_over_its_classes() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(6, 7)), rng.normal(size=7)
    columns = find_columns(("Car", "crane"), {"Car": ["cab", "jeep", "crane"]}, MODEL)
    own = label_head(weight, bias, columns)
    assert own is not None
    features = rng.normal(size=(5, 6)).astype(np.float32)
    examples = Examples(np.arange(5), features)
    labeled = LabeledExamples(examples, np.zeros(5, dtype=np.int64), own)
    head = OriginalHead.fit(labeled, num_classes=2)
    (batch,) = [shares for _, shares in head.batches(examples)]
    logits = torch.from_numpy(features @ weight + bias)
    wanted = torch.stack(
        [logits[:, list(some)].logsumexp(dim=1) for some in columns.of_label]
    ).softmax(dim=0)
    torch.testing.assert_close(batch.double(), wanted, rtol=1e-4, atol=1e-5)
    again = OriginalHead.from_state(head.state(), num_classes=2)
    (same,) = [shares for _, shares in again.batches(examples)]
    assert torch.equal(same, batch)


def test_a_head_of_another_shape_is_refused() -> None:
    head = LabelHead(np.zeros((4, 2), np.float32), np.zeros(2, np.float32), np.arange(2), 2)
    examples = Examples(np.arange(3), np.zeros((3, 5), np.float32))
    with pytest.raises(ShapeError, match="found a head from 4 features to 2 classes"):
        OriginalHead.fit(LabeledExamples(examples, np.zeros(3, np.int64), head), num_classes=2)


@pytest.mark.parametrize("scorer", ["diversity", "entropy"])
def test_a_miner_predicts_with_it_and_is_stored_with_it(tmp_path: Path, scorer: str) -> None:
    rng = np.random.default_rng(1)
    own = LabelHead(
        rng.normal(size=(6, 3)).astype(np.float32),
        np.zeros(3, np.float32),
        np.asarray([0, 1, 1]),
        2,
    )
    examples = Examples(np.arange(40), rng.normal(size=(40, 6)).astype(np.float16))
    targets = rng.integers(0, 2, 30)
    labeled = LabeledExamples(examples.take(np.arange(30)), targets, own)
    miner = fit_miner(
        labeled,
        examples.take(np.arange(30, 40)),
        classes=ClassSpace(("a", "b")),
        config=MinerConfig(scorer=scorer),
        seed=0,
    )
    found = miner.judge(examples)
    odds = np.exp(examples.features.astype(np.float32) @ own.weight)
    share = odds[:, 0] / odds.sum(axis=1)
    np.testing.assert_array_equal(found.predicted, (share < 0.5).astype(int))
    np.testing.assert_allclose(found.confidence, np.maximum(share, 1 - share), rtol=1e-3)
    miner.save(tmp_path / "v")
    again = Miner.load(tmp_path / "v")
    np.testing.assert_array_equal(again.judge(examples).confidence, found.confidence)
    first = miner.queue(examples, budget=5, seed=0).ids
    np.testing.assert_array_equal(again.queue(examples, budget=5, seed=0).ids, first)


def test_it_predicts_without_a_single_label() -> None:
    own = LabelHead(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), np.arange(2), 2)
    examples = Examples(np.arange(4), np.asarray([[3, 0], [0, 3], [1, 0], [0, 1]], np.float32))
    miner = fit_miner(
        LabeledExamples(examples.take(np.arange(0)), np.zeros(0, np.int64), own),
        examples,
        classes=ClassSpace(("a", "b")),
        config=MinerConfig(),
        seed=0,
    )
    assert miner.judge(examples).predicted.tolist() == [0, 1, 0, 1]


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
    """A torchvision model with published weights, without their download."""
    real = zoo.get_model

    def make(name: str, **arguments: object) -> nn.Module:
        arguments["weights"] = None
        network: nn.Module = real(name, **arguments)
        return network

    monkeypatch.setattr(zoo, "get_model", make)
    return BackboneSpec(architecture="resnet18", weights="DEFAULT", input_size=32)


def test_published_weights_bring_their_classes(published: BackboneSpec, tmp_path: Path) -> None:
    backbone = load_backbone(published)
    assert backbone.class_names is None
    names = backbone.own_classes
    assert names is not None
    assert len(names) == 1000
    assert "jeep" in names
    backbone.save(tmp_path / "b")
    assert Backbone.load(tmp_path / "b").own_classes == names


def test_the_linear_head_is_the_models_own(published: BackboneSpec) -> None:
    backbone = load_backbone(published)
    linear = backbone.linear_head()
    assert linear is not None
    weight, bias = linear
    batch = torch.rand(2, 3, 32, 32)
    features, _ = backbone.embed(batch)
    with torch.inference_mode():
        logits = backbone.network(batch).numpy()
    np.testing.assert_allclose(features @ weight + bias, logits, rtol=1e-3, atol=1e-4)


def test_a_head_behind_another_layer_is_none() -> None:
    tail = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4), nn.Linear(4, 4), nn.Softmax(1))
    spec = BackboneSpec(architecture="cnn4")
    recipe = load_backbone(spec).recipe
    assert Backbone(tail, spec=spec, recipe=recipe, class_names=None).linear_head() is None
    named = spec.model_copy(update={"feature_layer": "1"})
    assert Backbone(tail[:3], spec=named, recipe=recipe, class_names=None).linear_head() is None
    assert Backbone(tail[:3], spec=spec, recipe=recipe, class_names=None).linear_head() is not None


def test_architectures_go_by_name() -> None:
    names = architectures()
    assert {"cnn4", "resnet32", "resnet18"} <= set(names)
    assert "googlenet" not in names
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() for name in names)
