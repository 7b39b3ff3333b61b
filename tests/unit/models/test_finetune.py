"""The one training loop: what it promises whatever the strategy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models.recipes.finetune_loop as recipe
from models.config import FinetuneConfig
from models.errors import ConfigError, Diverged, NotEnoughLabels, ShapeError
from models.networks import Cnn4, ResNet32
from models.networks.folding import FoldedCopy
from models.rebalancing import STRATEGIES
from models.recipes.augmentation import make_augmentation
from models.recipes.finetune import Finetuned, finetune
from models.recipes.forward import Scaled, balanced_accuracy, predict
from models.recipes.schedules import step_size_factor
from models.recipes.trained_part import choose_trained
from models.recipes.training_set import TrainingSet
from tests.unit.models.rebalancing.small_runs import (
    SKEWED,
    TinyNet,
    features_of,
    pictures_of,
    targets_of,
)

NAMES = ("a", "b", "c")


def pictures(counts: tuple[int, ...] = SKEWED) -> TrainingSet:
    targets = targets_of(counts)
    return TrainingSet(pictures_of(targets), targets, NAMES)


def quick(**changes: Any) -> FinetuneConfig:
    settings = {
        "strategy": "erm",
        "epochs": 4,
        "min_steps": 0,
        "batch": 8,
        "augmentation": "crop",
        "learning_rate": 1e-2,
        "checkpoint_every_s": 0.0,
    }
    return FinetuneConfig(**{**settings, **changes})


def train(run_dir: Path, config: FinetuneConfig, data: TrainingSet | None = None) -> Finetuned:
    torch.manual_seed(0)
    training = data or pictures()
    network: nn.Module = TinyNet(3) if training.pictures else nn.Linear(6, 3)
    return finetune(
        network, training, mean=(0.5,) * 3, std=(0.25,) * 3, config=config, run_dir=run_dir, seed=3
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_run_killed_after_an_epoch_resumes_to_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"gan_steps": 3, "width": 2, "blocks": 1} if name.startswith("joint") else {}
    config = quick(strategy=name, options=options)
    data = pictures((24, 13, 6))
    undisturbed = train(tmp_path / "whole", config, data)
    epochs = recipe.Loop._epoch

    def dies(self: Any, epoch: int) -> dict[str, object]:
        if epoch == 2 and self.run_dir == tmp_path / "killed":
            raise Killed
        return epochs(self, epoch)

    monkeypatch.setattr(recipe.Loop, "_epoch", dies)
    with pytest.raises(Killed):
        train(tmp_path / "killed", config, data)
    monkeypatch.setattr(recipe.Loop, "_epoch", epochs)
    resumed = train(tmp_path / "killed", config, data)
    assert same(resumed.network, undisturbed.network)
    lines = [[line["loss"] for line in lines_of(tmp_path / run)] for run in ("whole", "killed")]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(tmp_path, quick())
    monkeypatch.setattr(recipe.Loop, "_epoch", None)
    assert same(train(tmp_path, quick()).network, first.network)


def test_another_run_in_the_same_folder_starts_anew(tmp_path: Path) -> None:
    train(tmp_path / "used", quick(learning_rate=1e-3))
    again = train(tmp_path / "used", quick())
    assert same(again.network, train(tmp_path / "fresh", quick()).network)


def test_a_damaged_checkpoint_starts_anew(tmp_path: Path) -> None:
    undisturbed = train(tmp_path, quick())
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half of a che")
    assert same(train(tmp_path, quick()).network, undisturbed.network)


def test_it_learns(tmp_path: Path) -> None:
    data = pictures((60, 40, 20))
    done = train(tmp_path, quick(epochs=15), data)
    network = Scaled(done.network, (0.5,) * 3, (0.25,) * 3)
    said = predict(network, data.inputs, device=torch.device("cpu"))
    assert float((said.argmax(1) == data.targets).float().mean()) > 0.9
    assert not any(p.requires_grad for p in done.network.parameters())
    assert not done.network.training


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = finetune(
        TinyNet(3),
        pictures(),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=quick(),
        run_dir=tmp_path / "other",
        seed=4,
    )
    assert not same(other.network, train(tmp_path / "one", quick()).network)


@pytest.mark.parametrize("layers", ["head", "last_block"])
def test_what_is_not_trained_stays_bit_identical(layers: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResNet32(3, blocks=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    finetune(
        network,
        TrainingSet(torch.randint(0, 256, (20, 3, 16, 16)).byte(), targets_of((12, 5, 3)), NAMES),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=quick(layers=layers, epochs=2),
        run_dir=tmp_path,
        seed=0,
    )
    changed = {
        name for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    allowed = "classifier" if layers == "head" else ("classifier", "stage3")
    assert changed
    assert all(name.startswith(allowed) for name in changed)


def test_the_statistics_of_what_is_trained_move(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = ResNet32(3, blocks=1)
    finetune(
        network,
        TrainingSet(torch.randint(0, 256, (20, 3, 16, 16)).byte(), targets_of((12, 5, 3)), NAMES),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=quick(layers="last_block", epochs=1),
        run_dir=tmp_path,
        seed=0,
    )
    state = network.state_dict()
    assert state["stage3.0.bn2.running_mean"].abs().max() > 0
    assert state["stage2.0.bn2.running_mean"].abs().max() == 0


def test_a_last_block_holds_more_than_a_normalisation() -> None:
    from torchvision.models import densenet121, shufflenet_v2_x0_5

    for network in (densenet121(weights=None), shufflenet_v2_x0_5(weights=None)):
        choose_trained(network, "last_block")
        weights = [p for p in network.parameters() if p.requires_grad and p.ndim >= 2]
        assert len(weights) > 1
        assert sum(p.requires_grad for p in network.parameters()) < len(list(network.parameters()))


def test_a_convolution_that_is_called_twice_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.conv(self.bn(self.conv(x))))

    torch.manual_seed(0)
    for network in (Twice(), ResNet32(3, blocks=1)):
        network.train()
        network(torch.rand(8, 3, 16, 16))
        x = torch.rand(2, 3, 16, 16)
        folded = FoldedCopy(network)
        quick_copy = folded.network
        torch.testing.assert_close(quick_copy(x), network.eval()(x), rtol=1e-4, atol=1e-5)
        for parameter in network.parameters():
            parameter.data.mul_(1.1)
        network.train()(torch.rand(8, 3, 16, 16))
        torch.testing.assert_close(
            folded.refresh(network)(x), network.eval()(x), rtol=1e-4, atol=1e-5
        )
        assert any(isinstance(m, nn.BatchNorm2d) for m in quick_copy.modules()) == isinstance(
            network, Twice
        )


def test_what_needs_pictures_refuses_a_head_alone_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError, match="more than the head"):
        train(tmp_path / "run", quick(strategy="joint_generation_aug", layers="head"))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_is_seen_in_the_last_step_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        nonlocal seen
        seen += 1
        value = nn.functional.cross_entropy(logits, targets)
        return value * float("nan") if seen == 10 else value

    monkeypatch.setattr("models.rebalancing.erm.Erm.make_criterion", lambda self, epoch: loss)
    with pytest.raises(Diverged):
        train(tmp_path, quick(epochs=1), pictures((50, 20, 11)))  # 81: the last one joins


def test_validation_sees_the_network_as_it_will_be(tmp_path: Path) -> None:
    torch.manual_seed(0)
    chosen = pictures((30, 30, 30))
    done = finetune(
        TinyNet(3),
        pictures((60, 20, 4)),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=quick(strategy="prior_scaling", epochs=3, patience=9, learning_rate=1e-3),
        run_dir=tmp_path,
        seed=1,
        validation=chosen,
    )
    network = Scaled(done.network, (0.5,) * 3, (0.25,) * 3)
    said = predict(network, chosen.inputs, device=torch.device("cpu")).argmax(dim=1)
    told = lines_of(tmp_path)[done.chosen]["validation_balanced_accuracy"]
    assert balanced_accuracy(said, chosen.targets) == pytest.approx(told)


def test_the_last_block_of_known_networks() -> None:
    from torchvision.models import resnet18, vit_b_16

    def trained(network: nn.Module) -> set[str]:
        choose_trained(network, "last_block")
        names = {name for name, p in network.named_parameters() if p.requires_grad}
        return {".".join(name.split(".")[:3]) for name in names}

    found = trained(resnet18(weights=None))
    assert {name.split(".")[0] for name in found} == {"layer4", "fc"}
    assert all(name.startswith(("layer4.1", "fc")) for name in found)
    assert trained(Cnn4(3)) == {
        "features.17.weight",
        "features.17.bias",
        "classifier.weight",
        "classifier.bias",
    }
    vit = trained(vit_b_16(weights=None))
    assert "heads.head.weight" in vit
    assert "conv_proj.weight" not in vit
    assert "encoder.layers.encoder_layer_11" in vit
    assert "encoder.layers.encoder_layer_10" not in vit


def test_the_step_size_is_the_published_one() -> None:
    def at(epoch: int) -> float:
        return 0.1 * step_size_factor(
            "step", warm_up=0.025, step=epoch * 97 + 96, steps=97, epochs=200
        )

    assert [at(e) for e in range(5)] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert at(159) == pytest.approx(0.1)
    assert at(160) == at(179) == pytest.approx(1e-3)
    assert at(180) == at(199) == pytest.approx(1e-5)


def test_cosine_falls_to_nothing_and_constant_stays() -> None:
    def factors(schedule: str) -> list[float]:
        return [
            step_size_factor(schedule, warm_up=0.0, step=s, steps=10, epochs=10) for s in range(100)
        ]

    cosine = factors("cosine")
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[0] == 1.0
    assert cosine[-1] < 1e-3
    assert set(factors("constant")) == {1.0}


def test_each_picture_is_varied_on_its_own() -> None:
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).expand(12, -1, -1, -1)
    for name in ("crop", "crop_flip", "affine"):
        varied = make_augmentation(name, size_px=16)(pictures)
        assert varied.shape == pictures.shape
        assert varied.dtype == torch.uint8
        assert len(torch.unique(varied.flatten(1), dim=0)) > 6
    assert torch.equal(make_augmentation("none", size_px=16)(pictures), pictures)
    with pytest.raises(ConfigError, match="found augmentation 'blur'"):
        make_augmentation("blur", size_px=16)


def test_epochs_are_added_until_there_are_enough_steps(tmp_path: Path) -> None:
    done = train(tmp_path, quick(epochs=1, min_steps=23))
    assert done.epochs == 5  # 36 examples in batches of 8 are 5 steps


def test_validation_chooses_the_epoch_and_stops(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = pictures((40, 20, 10))
    done = finetune(
        TinyNet(3),
        data,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=quick(epochs=40, patience=3),
        run_dir=tmp_path,
        seed=1,
        validation=pictures((9, 6, 3)),
    )
    assert done.epochs < 40
    assert done.chosen == done.epochs - 1 - 3
    lines = lines_of(tmp_path)
    found = [line["validation_balanced_accuracy"] for line in lines]
    assert max(found) == found[done.chosen]


def test_a_step_size_far_too_large_is_told(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="smaller than 1e"):
        train(tmp_path, quick(learning_rate=1e30, optimiser="sgd", epochs=30))


def test_progress_tells_the_epoch_and_the_time_left(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    torch.manual_seed(0)
    finetune(
        TinyNet(3),
        pictures(),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        config=quick(epochs=2),
        run_dir=tmp_path,
        seed=0,
        progress=lambda done, total, message="": told.append((done, total, message)),
    )
    assert [done for done, _, _ in told] == list(range(1, 11))
    assert {total for _, total, _ in told} == {10}
    assert told[0][2].startswith("epoch 1 of 2, ")
    assert told[-1][2] == "epoch 2 of 2, 0 s left"


def test_features_of_a_frozen_trunk(tmp_path: Path) -> None:
    targets = targets_of((30, 12, 6))
    done = train(
        tmp_path,
        quick(strategy="m2m", epochs=10),
        TrainingSet(features_of(targets), targets, NAMES),
    )
    assert isinstance(done.network, nn.Linear)
    said = predict(done.network, features_of(targets), device=torch.device("cpu"))
    assert float((said.argmax(1) == targets).float().mean()) > 0.8


def test_the_last_example_is_never_alone_in_a_batch(tmp_path: Path) -> None:
    train(tmp_path, quick(), pictures((5, 3, 1)))  # 9 examples, batches of 8: norm needs two


@pytest.mark.parametrize(
    ("inputs", "targets"),
    [
        (torch.zeros(3, 6), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 6), torch.tensor([0, 1, 3])),
        (torch.zeros(3, 6), torch.tensor([0.0, 1.0, 2.0])),
    ],
)
def test_targets_that_do_not_fit_are_refused(inputs: Tensor, targets: Tensor) -> None:
    with pytest.raises(ShapeError, match="found"):
        TrainingSet(inputs, targets, NAMES)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    data = TrainingSet(torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64), NAMES)
    with pytest.raises(NotEnoughLabels, match="two classes"):
        train(tmp_path, quick(), data)
