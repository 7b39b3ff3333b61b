"""Which labels are held out: where the frozen model is fine-tuned, nothing learns from them.

How good the active network and the miner on it are can then be measured at any time, on labels that
neither has seen. A label's place is decided by its task's id, so it never changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from backend.reconcile.context import device
from backend.settings import Settings
from models.held_out_split import held_out


def finetune_device(settings: Settings) -> str:
    """Where fine-tunes run."""
    return device(settings.finetune_device or settings.device)


def finetuning(settings: Settings) -> bool:
    """Whether the frozen model is fine-tuned, and labels are held out for it."""
    if settings.finetune == "auto":
        return finetune_device(settings).startswith("cuda")
    return settings.finetune == "on"


def held_out_of(ids: Collection[int]) -> tuple[int, ...]:
    """Those of some tasks whose labels are held out, ascending."""
    ordered = np.asarray(sorted(ids), dtype=np.int64)
    return tuple(int(i) for i in ordered[held_out(ordered)])


def learnable(labels: Mapping[int, str], settings: Settings) -> dict[int, str]:
    """The labels that something may learn from."""
    if not finetuning(settings):
        return dict(labels)
    away = set(held_out_of(labels))
    return {task: label for task, label in labels.items() if task not in away}
