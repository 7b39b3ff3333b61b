"""From the settings to what one fine-tune is trained with."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from backend.reconcile.held_out import finetune_device
from backend.settings import Settings
from models.config import FinetuneConfig
from models.tasks.base import CLASSIFICATION, DETECTION

AUTO = "auto"
#: What ``auto`` is for each kind of label.
STRATEGY_OF: Mapping[str, str] = MappingProxyType(
    {CLASSIFICATION: "balanced_softmax", DETECTION: "repeat_factor"}
)
#: Pictures of a detector are larger, and its gradients at times too.
_OF_BOXES = MappingProxyType({"batch": 8, "augmentation": "flip", "clip": 5.0})


def finetune_config(
    settings: Settings,
    *,
    from_scratch: bool,
    strategy: str | None = None,
    epochs: int | None = None,
    task: str = CLASSIFICATION,
) -> FinetuneConfig:
    """The training's own settings, as the settings have them and a person says otherwise.

    Args:
        settings: those that count.
        from_scratch: the network began with random weights; the features of given ones are spared.
        strategy: None: the settings'.
        epochs: None: the settings'. Who names epochs means these: none are added.
        task: which kind of labels there are.
    """
    layers = settings.finetune_layers
    if layers == "auto":
        layers = "all" if from_scratch else "last_block"
    return FinetuneConfig(
        strategy=strategy_of(settings, task, strategy),
        layers=layers,
        epochs=epochs or settings.finetune_epochs,
        min_steps=0 if epochs else settings.finetune_min_steps,
        learning_rate=settings.finetune_learning_rate,
        patience=settings.finetune_patience,
        device=finetune_device(settings),
        **(_OF_BOXES if task == DETECTION else {}),
    )


def strategy_of(settings: Settings, task: str, asked: str | None = None) -> str:
    """The strategy that a person asked for, or that of the settings, for a kind of labels."""
    name = asked or settings.finetune_strategy
    return STRATEGY_OF[task] if name == AUTO else name


def unknown_strategy(name: str, task: str) -> str:
    """Why a strategy cannot be had for a kind of labels; empty where it can."""
    from models.rebalancing import BOX_STRATEGIES, STRATEGIES

    if name not in STRATEGIES:
        known = BOX_STRATEGIES if task == DETECTION else STRATEGIES
        return f"found no strategy {name!r}; expected one of {', '.join(known)}"
    if task == DETECTION and name not in BOX_STRATEGIES:
        return (
            f"the strategy {name} is for images of one class each, and this project's have boxes; "
            f"expected one of {', '.join(BOX_STRATEGIES)}"
        )
    return ""
