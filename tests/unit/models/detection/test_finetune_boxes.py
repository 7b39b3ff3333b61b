"""The one training loop on a detector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import models.recipes.finetune_loop as loop
from models.backbones.detector import Detector
from models.config import FinetuneConfig
from models.detection.boxes import Box
from models.detection.coco import box_metrics
from models.errors import ConfigError, Diverged, NotEnoughLabels
from models.rebalancing import BOX_STRATEGIES, STRATEGIES, Difficulty
from models.rebalancing.base import Strategy, Task
from models.recipes import finetune_boxes as recipe
from models.recipes.box_set import BoxSet
from models.recipes.find_boxes import find_boxes
from models.recipes.finetune import Finetuned
from models.recipes.finetune_boxes import finetune_boxes
from models.recipes.teach_boxes import BoxTeaching, losses_of
from tests.unit.models.detection.drawn import box_set, drawn, tiny

CPU = torch.device("cpu")


def quick(**changes: Any) -> FinetuneConfig:
    settings = {
        "strategy": "erm",
        "epochs": 3,
        "min_steps": 0,
        "batch": 4,
        "augmentation": "flip",
        "learning_rate": 2e-3,
        "checkpoint_every_s": 0.0,
        "clip": 5.0,
    }
    return FinetuneConfig(**{**settings, **changes})


def train(run_dir: Path, config: FinetuneConfig, count: int = 10) -> tuple[Detector, Finetuned]:
    detector = tiny()
    data = box_set(detector, *drawn(count))
    return detector, finetune_boxes(detector, data, config=config, run_dir=run_dir, seed=3)


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize(
    ("strategy", "layers"),
    [*((name, "all") for name in BOX_STRATEGIES), ("repeat_factor", "last_block")],
)
def test_a_run_killed_after_an_epoch_resumes_to_the_same_bits(
    strategy: str, layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(strategy=strategy, layers=layers)
    _, whole = train(tmp_path / "whole", config)
    epochs = loop.Loop._epoch

    def dies(self: Any, epoch: int) -> dict[str, object]:
        if epoch == 2:
            raise Killed
        return epochs(self, epoch)

    monkeypatch.setattr(loop.Loop, "_epoch", dies)
    with pytest.raises(Killed):
        train(tmp_path / "killed", config)
    monkeypatch.setattr(loop.Loop, "_epoch", epochs)
    _, resumed = train(tmp_path / "killed", config)
    assert same(resumed.network, whole.network)
    losses = [[line["loss"] for line in lines_of(tmp_path / run)] for run in ("whole", "killed")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_focal_is_what_a_detector_does_anyway(tmp_path: Path) -> None:
    _, plain = train(tmp_path / "erm", quick())
    _, focal = train(tmp_path / "focal", quick(strategy="focal"))
    assert same(plain.network, focal.network)


def test_it_learns(tmp_path: Path) -> None:
    detector, done = train(tmp_path, quick(epochs=30, learning_rate=5e-3), count=16)
    assert not done.network.training
    assert not any(p.requires_grad for p in done.network.parameters())
    images, boxes = drawn(12, seed=9)
    fresh = box_set(detector, images, boxes)
    found = find_boxes(detector.network, fresh.pictures, detector.scaled, device=CPU)
    figures = box_metrics(found, boxes, class_names=detector.class_names)
    assert figures.mean_ap_50 is not None
    assert figures.mean_ap_50 > 0.5
    losses = [line["loss"] for line in lines_of(tmp_path)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(("layers", "still"), [("head", "backbone."), ("last_block", "stages.")])
def test_what_is_not_trained_stays_bit_identical(layers: str, still: str, tmp_path: Path) -> None:
    before = tiny().network.state_dict()
    _, done = train(tmp_path, quick(layers=layers, epochs=2))
    after = done.network.state_dict()
    kept = {name for name in before if still in name}
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept)
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert any("cls_logits" in name for name in moved)
    assert any("pyramid" in name for name in moved) == (layers == "last_block")


def test_without_room_for_maps_the_trunk_is_asked_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quick(layers="last_block", epochs=1, augmentation="none")
    _, cached = train(tmp_path / "cached", config)
    monkeypatch.setattr(recipe, "_MOST_CACHED_BYTES", 0)
    _, asked = train(tmp_path / "asked", config)
    for one, other in zip(cached.network.parameters(), asked.network.parameters(), strict=True):
        assert torch.allclose(one, other, atol=5e-3)  # maps are kept in half precision


def test_it_stops_by_mean_ap_of_validation_pictures(tmp_path: Path) -> None:
    detector = tiny()
    data, other = (box_set(detector, *drawn(8, seed=seed)) for seed in (1, 2))
    done = finetune_boxes(
        detector,
        data,
        config=quick(patience=1, epochs=12, learning_rate=1e-9),
        run_dir=tmp_path,
        seed=0,
        validation=other,
    )
    assert done.epochs < 12
    assert all(0 <= line["validation_mean_ap"] <= 1 for line in lines_of(tmp_path))


def test_the_mirror_image_has_its_boxes_in_their_places() -> None:
    detector = tiny()
    data = box_set(detector, *drawn(6, seed=4))
    teaching = BoxTeaching(data, None, detector.scaled, flips=True)
    torch.manual_seed(1)
    batch = teaching.batch(torch.arange(6), 0, CPU)
    plain = BoxTeaching(data, None, detector.scaled, flips=False).batch(torch.arange(6), 0, CPU)
    turned = [not torch.equal(a, b) for a, b in zip(batch.inputs, plain.inputs, strict=True)]
    assert 0 < sum(turned) < 6
    for picture, target in zip(batch.inputs, batch.wanted, strict=True):
        for box, label in zip(target["boxes"], target["labels"], strict=True):
            x, y = (int(value) for value in (box[:2] + box[2:]) / 2)
            reddest, bluest = picture[0, y, x], picture[2, y, x]
            assert bool(reddest > bluest) == (int(label) == 0)


def test_an_images_difficulty_comes_from_its_own_loss(tmp_path: Path) -> None:
    detector = tiny()
    data = box_set(detector, *drawn(5, seed=6))
    losses = losses_of(detector.network, data, detector.scaled, device=CPU)
    said = BoxTeaching(data, None, detector.scaled, flips=True).said(detector.network, CPU)
    assert torch.allclose(said[:, 0], torch.exp(-losses))
    assert torch.allclose(said.sum(dim=1), torch.ones(5))
    for n in range(5):
        alone = BoxSet(data.pictures[n : n + 1], data.boxes[n : n + 1], data.class_names)
        one = losses_of(detector.network, alone, detector.scaled, device=CPU)
        assert torch.allclose(one[0], losses[n], rtol=1e-4)
    # What the network says in training mode of one picture, its statistics standing still.
    network = detector.network
    network.training = True
    parts = network(detector.scaled(data.pictures[:1])[:, :3], data.targets[:1])
    network.training = False
    assert torch.allclose(torch.stack(list(parts.values())).sum(), losses[0], rtol=1e-4)


def test_the_difficulty_of_a_picture_is_the_methods_own(tmp_path: Path) -> None:
    """METHODS section 12: (.5, .5) to (.6, .4) is learning of .040547, back is as much undone."""
    strategy = Difficulty()
    detector = tiny()
    teaching = BoxTeaching(box_set(detector, *drawn(3)), None, detector.scaled, flips=False)
    strategy.begin(task_of_boxes(teaching, tmp_path))
    strategy.on_epoch_end(0, torch.tensor([[0.6, 0.4], [0.5, 0.5], [0.4, 0.6]]))
    assert strategy.difficulties.tolist() == pytest.approx([0.96103, 1.0, 1.040547], abs=1e-5)
    assert strategy.hardest(1)[0].tolist() == [2]


def task_of_boxes(teaching: BoxTeaching, run_dir: Path) -> Task:
    return Task(
        inputs=teaching.inputs,
        targets=teaching.targets,
        class_names=teaching.class_names,
        epochs=2,
        batch=2,
        seed=0,
        device=CPU,
        run_dir=run_dir,
        holds=teaching.holds,
    )


def test_a_run_follows_each_pictures_difficulty(tmp_path: Path) -> None:
    _, done = train(tmp_path, quick(strategy="difficulty"))
    assert isinstance(done.strategy, Difficulty)
    assert done.strategy.difficulties.shape == (10,)
    assert len(done.strategy.difficulties.unique()) == 10
    assert "largest_difficulty" in lines_of(tmp_path)[-1]


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - set(BOX_STRATEGIES)))
def test_strategies_for_one_class_an_image_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{name} is for images of one class each.* erm, focal"):
        train(tmp_path, quick(strategy=name))


def test_those_that_take_boxes() -> None:
    assert BOX_STRATEGIES == ("erm", "focal", "repeat_factor", "difficulty")
    assert not Strategy.takes_boxes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augmentation": "affine"}, "boxes are only mirrored"),
        ({"strategy": "focal", "options": {"gamma": 1.0}}, "gamma 2 and alpha .25"),
    ],
)
def test_what_boxes_cannot_have_is_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        train(tmp_path, quick(**changes))


def test_labels_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    detector = tiny()
    images, boxes = drawn(3)
    empty = box_set(detector, images, [()] * 3)
    with pytest.raises(NotEnoughLabels, match="found 0 picture"):
        finetune_boxes(detector, empty, config=quick(), run_dir=tmp_path, seed=0)
    one = box_set(detector, images[:1], boxes[:1])
    with pytest.raises(NotEnoughLabels, match="needs two pictures"):
        finetune_boxes(detector, one, config=quick(), run_dir=tmp_path, seed=0)
    other = tiny(("blue", "red"))
    with pytest.raises(ConfigError, match="in this order"):
        finetune_boxes(other, box_set(detector, images, boxes), config=quick(), run_dir=tmp_path,
                       seed=0)  # fmt: skip


def test_a_step_size_beyond_all_bounds_is_said_to_diverge(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="not finite"):
        train(tmp_path, quick(learning_rate=1e30, clip=0.0))


def test_pictures_of_background_and_unknown_boxes_are_taken(tmp_path: Path) -> None:
    detector = tiny()
    images, boxes = drawn(6)
    boxes[0], boxes[1] = (), (Box(None, 0.1, 0.1, 0.5, 0.5), Box("plate", 0.5, 0.5, 0.9, 0.9))
    data = box_set(detector, images, boxes)
    assert not data.holds[:2].any()
    for name in BOX_STRATEGIES:
        config = quick(strategy=name, epochs=2)
        done = finetune_boxes(tiny(), data, config=config, run_dir=tmp_path / name, seed=0)
        assert all(value.isfinite().all() for value in done.network.state_dict().values())


def test_half_precision_trains_and_looks_in_full(tmp_path: Path) -> None:
    detector = tiny()
    data, other = (box_set(detector, *drawn(8, seed=seed)) for seed in (1, 2))
    done = finetune_boxes(
        detector,
        data,
        config=quick(strategy="difficulty", precision="bf16", patience=5),
        run_dir=tmp_path,
        seed=0,
        validation=other,
    )
    assert all(value.dtype != torch.bfloat16 for value in done.network.state_dict().values())
    assert all(line["loss"] > 0 for line in lines_of(tmp_path))
    assert isinstance(done.strategy, Difficulty)
    assert done.strategy.difficulties.isfinite().all()
