"""Names of scorers: a setting of the whole service may name one that orders other labels only."""

from __future__ import annotations

from collections.abc import Collection

from models.config import MinerConfig
from models.detection.scorers import DETECTION_SCORERS, DIVERSITY
from models.recipes.choose_scorer import AUTO
from models.scorers import SCORERS

OF_CLASSES: Collection[str] = (*SCORERS, AUTO)
OF_BOXES: Collection[str] = (*DETECTION_SCORERS, DIVERSITY, AUTO)
ALL: Collection[str] = tuple(dict.fromkeys((*OF_CLASSES, *OF_BOXES)))

_DEFAULT = "rarefirst"


def served(config: MinerConfig, own: Collection[str]) -> tuple[MinerConfig, str]:
    """The settings with a scorer of this kind of labels, and a sentence where it is another one.

    Args:
        config: as a person asked; a name that is in no table stays, and is refused by the fit.
        own: names of scorers for this kind.
    """
    asked = config.scorer
    if asked in own or asked not in ALL:
        return config, ""
    said = f"scorer {asked} is for another kind of labels, these are ordered by {_DEFAULT}"
    return config.model_copy(update={"scorer": _DEFAULT}), said
