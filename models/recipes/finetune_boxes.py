"""Train a detector on skewed boxes: the loop of ``finetune_loop`` on a RetinaNet.

Where the trunk stays as it is, its maps of each picture and of its mirror image are computed once.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from models.backbones.detector import Detector
from models.config import FinetuneConfig
from models.errors import ConfigError, NotEnoughLabels
from models.networks.retinanet import Retina
from models.rebalancing import BOX_STRATEGIES, make_strategy
from models.rebalancing.base import Strategy
from models.recipes.box_set import BoxSet, with_maps
from models.recipes.finetune import Finetuned
from models.recipes.finetune_loop import Loop
from models.recipes.teach_boxes import BoxTeaching
from models.types import Progress, no_progress

_MOST_CACHED_BYTES = 1_500_000_000


def finetune_boxes(
    detector: Detector,
    training: BoxSet,
    *,
    config: FinetuneConfig,
    run_dir: Path,
    seed: int,
    validation: BoxSet | None = None,
    progress: Progress = no_progress,
) -> Finetuned:
    """Train a detector's network on skewed boxes, from the weights that it has.

    The loss is the network's own, which is focal already: ``erm`` and ``focal`` are the same here.

    Args:
        detector: its network is trained in place; over ``training.class_names``.
        training: what it learns from; pictures without boxes are background.
        config: budget, strategy, and layers: ``head`` is both towers with what follows them,
            ``last_block`` the pyramid too, ``all`` the trunk too. ``flip`` and ``none`` are the
            augmentations.
        run_dir: what lies there of the same run is resumed.
        seed: of everything random.
        validation: pictures that choose the epoch by mean AP, where ``config.patience`` asks for
            it.
        progress: told after each step.

    Raises:
        NotEnoughLabels: for fewer than two pictures, or no box of a class.
        ConfigError: if the strategy is unknown or not one for boxes, the augmentation is not, or
            the detector is over other classes.
        Diverged: if the loss is not finite any more.
    """
    if detector.class_names != training.class_names:
        raise ConfigError(
            f"the detector finds {', '.join(detector.class_names)}; expected "
            f"{', '.join(training.class_names)} in this order"
        )
    if len(training) < 2 or not bool(training.holds.any()):
        raise NotEnoughLabels(
            f"found {int(training.holds.any(dim=1).sum())} picture(s) with boxes of the classes "
            f"among {len(training)}; a fine-tune needs two pictures, and a box at least"
        )
    strategy = strategy_for_boxes(config)
    run_dir.mkdir(parents=True, exist_ok=True)
    network = detector.network
    frozen = choose_trained_parts(network, config.layers)
    if config.layers != "all":
        sets = [training] if validation is None else [training, validation]
        training, *others = with_maps(detector, sets, most_bytes=_MOST_CACHED_BYTES)
        validation = others[0] if others else None
    teaching = BoxTeaching(training, validation, detector.scaled, config.augmentation == "flip")
    loop = Loop(network, frozen, teaching, strategy, config, run_dir, seed, progress)
    epochs, chosen, seconds = loop.run()
    strategy.finish(network)
    network.cpu().eval().requires_grad_(False)
    return Finetuned(network, strategy, epochs, chosen, seconds)


def strategy_for_boxes(config: FinetuneConfig) -> Strategy:
    """The strategy that the settings name.

    Raises: ConfigError: if it is not one for boxes, or the augmentation is not.
    """
    strategy = make_strategy(config.strategy, config.options)
    if not strategy.takes_boxes:
        raise ConfigError(
            f"{config.strategy} is for images of one class each, and these have boxes; expected "
            f"one of {', '.join(BOX_STRATEGIES)}"
        )
    if config.strategy == "focal" and config.options:
        raise ConfigError(
            "a detector's own focal loss has gamma 2 and alpha .25; expected no option of focal"
        )
    if config.augmentation not in {"none", "flip"}:
        raise ConfigError(
            f"found augmentation {config.augmentation!r}; boxes are only mirrored: expected flip "
            "or none"
        )
    return strategy


def choose_trained_parts(network: Retina, layers: str) -> list[nn.Module]:
    """Let gradients flow to the chosen parts only.

    Args:
        network: a detector's.
        layers: ``head`` (both towers), ``last_block`` (the pyramid too) or ``all``.
    Returns: modules that must stay in evaluation mode, so that their statistics do not move.
    """
    network.requires_grad_(True)
    still: list[nn.Module] = []
    if layers != "all":
        still = [network.backbone.stages]
    if layers == "head":
        still = [network.backbone]
    for part in still:
        part.requires_grad_(False)
    return [module for part in still for module in part.modules()]
