from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.backbones import Backbone, BackboneSpec
from models.config import BootstrapConfig
from models.errors import NotEnoughLabels, ShapeError
from models.recipes.train_backbone import train_backbone

SPEC = BackboneSpec(architecture="own_networks:make_small", num_classes=2)
CONFIG = BootstrapConfig(
    steps=24, batch=8, checkpoint_every=5, least_steps=8, cool_down=6, enough_loss=0.0
)


class _KilledError(Exception):
    """Stands for kill -9 in the middle of the run."""


def _pictures(count: int = 24) -> tuple[list[Image.Image], list[int]]:
    rng = np.random.default_rng(0)
    targets = [int(i % 3 == 0) for i in range(count)]
    pixels = rng.integers(0, 60, (count, 16, 16, 3), dtype=np.uint8)
    for row, target in enumerate(targets):
        pixels[row, :, :, target] += 150
    return [Image.fromarray(p) for p in pixels], targets


def _train(
    folder: Path, *, config: BootstrapConfig = CONFIG, die_at: int | None = None
) -> Backbone:
    images, targets = _pictures()

    def progress(done: int, total: int, message: str = "") -> None:
        if done == die_at:
            raise _KilledError

    return train_backbone(
        images,
        targets,
        class_names=("red", "green"),
        spec=SPEC,
        config=config,
        run_dir=folder,
        seed=3,
        progress=progress,
    )


def _steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_it_learns_and_is_frozen(tmp_path: Path) -> None:
    backbone = _train(tmp_path, config=CONFIG.model_copy(update={"steps": 150}))
    images, targets = _pictures()
    _, logits = backbone.embed(torch.stack([backbone.preprocess(image) for image in images]))
    assert logits is not None
    assert (logits.argmax(axis=1) == np.asarray(targets)).mean() > 0.9
    assert backbone.class_names == ("red", "green")
    assert not backbone.network.training
    assert _steps(tmp_path) == list(range(1, 151))


@pytest.mark.parametrize("die_at", [3, 10, 13, 24])
def test_a_killed_run_resumes_to_the_same_model(tmp_path: Path, die_at: int) -> None:
    whole = _train(tmp_path / "whole")
    with pytest.raises(_KilledError):
        _train(tmp_path / "killed", die_at=die_at)
    resumed = _train(tmp_path / "killed")
    assert resumed.fingerprint == whole.fingerprint
    assert _steps(tmp_path / "killed") == list(range(1, 25))


def test_a_damaged_checkpoint_means_starting_anew(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole")
    with pytest.raises(_KilledError):
        _train(tmp_path / "killed", die_at=12)
    (tmp_path / "killed" / "checkpoint.safetensors").write_bytes(b"half")
    assert _train(tmp_path / "killed").fingerprint == whole.fingerprint


def test_a_low_loss_ends_the_training_early(tmp_path: Path) -> None:
    easy = CONFIG.model_copy(update={"steps": 500, "enough_loss": 10.0})
    _train(tmp_path, config=easy)
    assert _steps(tmp_path)[-1] == CONFIG.least_steps + CONFIG.cool_down


def test_the_random_state_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    _train(tmp_path)
    assert torch.equal(torch.rand(1), expected)


def test_what_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    images, targets = _pictures()

    def train(labels: list[int]) -> None:
        train_backbone(
            images,
            labels,
            class_names=("red", "green"),
            spec=SPEC,
            config=CONFIG,
            run_dir=tmp_path,
            seed=0,
        )

    with pytest.raises(NotEnoughLabels):
        train([0] * len(images))
    with pytest.raises(ShapeError):
        train(targets[:-1])
    with pytest.raises(ShapeError):
        train([2, *targets[1:]])
