"""The budgets: what was published, for a GPU, and what two processor cores can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.long_tail.profile import MOST
from models.config import FinetuneConfig
from models.networks import ResNet32

#: Of CIFAR's channels, as the published recipe has them (docs/methods.md, section 9).
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: ResNet32(10, blocks=1),
    "resnet32": lambda: ResNet32(10),
}


@dataclass(frozen=True)
class Preset:
    """One budget.

    Attributes:
        network: which one, from scratch.
        most: pictures of the largest class.
        ratio: that over the smallest.
        strategies: names of the table of rebalancing strategies.
        config: of every strategy; the strategy's name is put in.
    """

    network: str
    most: int
    ratio: float
    strategies: tuple[str, ...]
    config: FinetuneConfig

    def make_network(self, seed: int, network: str = "") -> nn.Module:
        """Fresh weights, of the preset's network or of another one."""
        torch.manual_seed(seed)
        return _NETWORKS[network or self.network]()


CPU = Preset(
    network="resnet8",
    most=1500,
    ratio=100,
    strategies=("erm", "focal", "drs", "drw", "m2m", "difficulty", "balanced_softmax"),
    config=FinetuneConfig(
        epochs=30,
        min_steps=0,
        batch=64,
        optimiser="adamw",
        learning_rate=5e-3,
        weight_decay=2e-4,
        schedule="cosine",
        warm_up=0.025,
        augmentation="crop_flip",
        precision="bf16",
    ),
)

PAPER = Preset(
    network="resnet32",
    most=MOST,
    ratio=100,
    strategies=(
        "erm", "focal", "class_balanced", "resample", "reweight", "drs", "drw", "ldam",
        "balanced_softmax", "logit_adjusted", "smote", "m2m", "m2m_undeferred", "m2m_no_lambda",
        "m2m_random_labels", "m2m_clean", "m2m_ldam", "difficulty", "difficulty_class_balanced",
    ),
    config=FinetuneConfig(
        epochs=200,
        min_steps=0,
        batch=128,
        optimiser="sgd",
        learning_rate=0.1,
        weight_decay=2e-4,
        schedule="step",
        warm_up=0.025,
        augmentation="crop_flip",
        precision="32",
    ),
)  # fmt: skip

PRESETS = {"cpu": CPU, "paper": PAPER}
