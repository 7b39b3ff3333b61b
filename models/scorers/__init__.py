"""Ways to order a pool. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.scorers.base import StoredScorer
from models.scorers.diversity import Diversity
from models.scorers.paper import Paper
from models.scorers.random import Random
from models.scorers.rarefirst import RareFirst
from models.scorers.uncertainty import Entropy, MaxScore, TailMass

SCORERS: Mapping[str, type[StoredScorer]] = MappingProxyType(
    {
        "rarefirst": RareFirst,
        "paper": Paper,
        "tail_mass": TailMass,
        "entropy": Entropy,
        "max_score": MaxScore,
        "diversity": Diversity,
        "random": Random,
    }
)

__all__ = ["SCORERS", "StoredScorer"]
