"""Read a fitted miner of either task."""

from __future__ import annotations

import json
from pathlib import Path

from models.errors import CorruptVersion
from models.recipes.fit_detection_miner import KIND, DetectionMiner
from models.recipes.fit_miner import Miner


def load_miner(folder: Path) -> Miner | DetectionMiner:
    """What ``save`` of one of the two wrote.

    Raises: CorruptVersion: if files are missing or damaged.
    """
    try:
        card = json.loads((folder / "miner.json").read_bytes())
        task = card.get("task") if isinstance(card, dict) else None
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptVersion(
            f"the miner in {folder} cannot be read ({type(error).__name__}: {error}); delete the "
            "folder, the next fit makes a new one"
        ) from error
    return DetectionMiner.load(folder) if task == KIND else Miner.load(folder)
