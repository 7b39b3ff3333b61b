"""Read a fitted miner of either task."""

from __future__ import annotations

import json
from pathlib import Path

from models.recipes.fit_detection_miner import KIND, DetectionMiner
from models.recipes.fit_miner import Miner
from models.recipes.miner_files import refused_if_damaged


def load_miner(folder: Path) -> Miner | DetectionMiner:
    """What ``save`` of one of the two wrote.

    Raises: CorruptVersion: if files are missing or damaged.
    """
    with refused_if_damaged(folder, OSError, ValueError, RecursionError):
        card = json.loads((folder / "miner.json").read_bytes())
        task = card.get("task") if isinstance(card, dict) else None
    return DetectionMiner.load(folder) if task == KIND else Miner.load(folder)
