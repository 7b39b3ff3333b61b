"""From the settings to what one fine-tune is trained with."""

from __future__ import annotations

from backend.reconcile.held_out import finetune_device
from backend.settings import Settings
from models.config import FinetuneConfig


def finetune_config(
    settings: Settings,
    *,
    from_scratch: bool,
    strategy: str | None = None,
    epochs: int | None = None,
) -> FinetuneConfig:
    """The training's own settings, as the settings have them and a person says otherwise.

    Args:
        settings: those that count.
        from_scratch: the network began with random weights; the features of given ones are spared.
        strategy: None: the settings'.
        epochs: None: the settings'. Who names epochs means these: none are added.
    """
    layers = settings.finetune_layers
    if layers == "auto":
        layers = "all" if from_scratch else "last_block"
    return FinetuneConfig(
        strategy=strategy or settings.finetune_strategy,
        layers=layers,
        epochs=epochs or settings.finetune_epochs,
        min_steps=0 if epochs else settings.finetune_min_steps,
        learning_rate=settings.finetune_learning_rate,
        patience=settings.finetune_patience,
        device=finetune_device(settings),
    )
