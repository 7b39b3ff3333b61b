"""Train a classifier on skewed labels: the loop of ``finetune_loop`` on pictures or features.

Where the head alone is trained, what comes before it is computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from models.config import FinetuneConfig
from models.errors import ConfigError, NotEnoughLabels
from models.networks.cosine_head import last_linear
from models.rebalancing import make_strategy
from models.rebalancing.base import Strategy
from models.recipes.finetune_loop import METRICS, Loop
from models.recipes.forward import Scaled, on_device
from models.recipes.teach_classes import ClassTeaching
from models.recipes.trained_part import PenultimateFeatures, choose_trained
from models.recipes.training_set import TrainingSet
from models.types import Progress, no_progress


@dataclass(frozen=True)
class Finetuned:
    """What came of a training.

    Attributes:
        network: in evaluation mode, without gradients, on the CPU.
        strategy: with what it learned, such as difficulties.
        epochs: how many were made.
        chosen: the epoch whose weights these are, counted from 0.
        seconds: of the training itself, over all tries.
    """

    network: nn.Module
    strategy: Strategy
    epochs: int
    chosen: int
    seconds: float


def finetune(
    network: nn.Module,
    training: TrainingSet,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    config: FinetuneConfig,
    run_dir: Path,
    seed: int,
    validation: TrainingSet | None = None,
    progress: Progress = no_progress,
) -> Finetuned:
    """Train a network on skewed labels, from the weights that it has.

    Args:
        network: scaled pictures (B, 3, H, W), or features (B, D), to logits (B, K). It is trained
            in place.
        training: what it learns from.
        mean: subtracted from each channel of pictures on [0, 1]; not used for features.
        std: what each channel is divided by then.
        config: budget, strategy, layers.
        run_dir: what lies there of the same run is resumed.
        seed: of everything random.
        validation: examples that choose the epoch, where ``config.patience`` asks for it.
        progress: told after each step of steps in all, with the epoch and the time left.

    Raises:
        NotEnoughLabels: for fewer than two examples, or labels of one class only.
        ShapeError: if training and validation do not fit together.
        ConfigError: if the strategy is unknown, or cannot work on these inputs.
        Diverged: if the loss is not finite any more.
    """
    kinds = int((torch.bincount(training.targets) > 0).sum())
    if kinds < 2:
        raise NotEnoughLabels(
            f"found {len(training)} labels of {kinds} class(es); a fine-tune needs labels of two "
            "classes at least"
        )
    strategy = make_strategy(config.strategy, config.options)
    if strategy.needs_pictures and (config.layers == "head" or not training.pictures):
        raise ConfigError(
            f"{config.strategy} works on pictures, and the head alone is trained on features: "
            "train more than the head, or choose another strategy"
        )
    run_dir.mkdir(parents=True, exist_ok=True)
    network = strategy.prepare_network(network)
    whole: nn.Module = Scaled(network, mean, std) if training.pictures else network
    frozen = choose_trained(network, config.layers)
    trained: nn.Module = whole
    if config.layers == "head" and training.pictures:
        device = torch.device(config.device)
        trunk = PenultimateFeatures(whole.to(device).eval())
        _, trained = last_linear(network)
        training = _features(trunk, training, device)
        validation = None if validation is None else _features(trunk, validation, device)
        frozen = []
    teaching = ClassTeaching(training, validation, config.augmentation)
    loop = Loop(trained, frozen, teaching, strategy, config, run_dir, seed, progress)
    epochs, chosen, seconds = loop.run()
    strategy.finish(trained)
    network.cpu().eval().requires_grad_(False)
    return Finetuned(network, strategy, epochs, chosen, seconds)


def _features(trunk: PenultimateFeatures, part: TrainingSet, device: torch.device) -> TrainingSet:
    said = [
        trunk(on_device(part.inputs[at : at + 256], device)).cpu()
        for at in range(0, len(part), 256)
    ]
    return replace(part, inputs=torch.cat(said).clone())


__all__ = ["METRICS", "Finetuned", "TrainingSet", "finetune"]
