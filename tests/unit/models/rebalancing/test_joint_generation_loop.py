"""Joint generation in the one training loop, killed and taken up again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.config import FinetuneConfig
from models.recipes.finetune import TrainingSet, finetune
from tests.unit.models.rebalancing.small_runs import TinyNet, pictures_of, targets_of

CONFIG = FinetuneConfig(
    options={"blocks": 1, "width": 2, "gan_batch": 2, "gan_steps": 4},
    epochs=3,
    min_steps=0,
    batch=16,
    augmentation="none",
    checkpoint_every_s=0,
)


class _KilledError(Exception):
    """Stands for kill -9 in the middle of the run."""


def _run(folder: Path, mode: str, *, die_after: int | None = None) -> dict[str, Tensor]:
    told = 0

    def progress(done: int, total: int, message: str = "") -> None:
        nonlocal told
        told += 1
        if told == die_after:
            raise _KilledError

    targets = targets_of((20, 12))
    torch.manual_seed(0)
    made = finetune(
        TinyNet(2),
        TrainingSet(pictures_of(targets), targets, ("common", "rare")),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        config=CONFIG.model_copy(update={"strategy": f"joint_generation_{mode}"}),
        run_dir=folder,
        seed=6,
        progress=progress,
    )
    return made.network.state_dict()


@pytest.mark.parametrize("mode", ["aug", "alt"])
@pytest.mark.parametrize("die_after", [3, 5])
def test_a_killed_run_ends_with_the_same_bits(mode: str, die_after: int, tmp_path: Path) -> None:
    """Killed while it learns to translate, or in the middle of an epoch."""
    whole = _run(tmp_path / "whole", mode)
    with pytest.raises(_KilledError):
        _run(tmp_path / "killed", mode, die_after=die_after)
    again = _run(tmp_path / "killed", mode)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    lines = [
        json.loads(line)
        for line in (tmp_path / "killed" / "metrics.jsonl").read_text().split("\n")
        if line
    ]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert all(line["pairs"] == {"rare": "common"} for line in lines)
    assert list((tmp_path / "killed" / "joint_generation" / "1-from-0").glob("*.png"))
