"""Ways to order a pool. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.scorers.base import StoredScorer
from models.scorers.direct import Direct
from models.scorers.diversity import Diversity
from models.scorers.entropy import Entropy
from models.scorers.flqmi import Flqmi
from models.scorers.galaxy import Galaxy
from models.scorers.hal import HalG, HalR
from models.scorers.knn_distance import KnnDistance
from models.scorers.mahalanobis import Mahalanobis
from models.scorers.margin import Margin
from models.scorers.max_score import MaxScore
from models.scorers.paper import Paper, PaperLogit, PaperNoRc, PaperReleased
from models.scorers.random import Random
from models.scorers.rarefirst import RareFirst
from models.scorers.tail_mass import TailMass, TailMassAdjusted, TailMassPaperRc, TailMassRc
from models.scorers.went import Went, WentNorm

SCORERS: Mapping[str, type[StoredScorer]] = MappingProxyType(
    {
        "rarefirst": RareFirst,
        "paper": Paper,
        "paper_logit": PaperLogit,
        "paper_no_rc": PaperNoRc,
        "paper_released": PaperReleased,
        "tail_mass": TailMass,
        "tail_mass_adjusted": TailMassAdjusted,
        "tail_mass_rc": TailMassRc,
        "tail_mass_paper_rc": TailMassPaperRc,
        "max_score": MaxScore,
        "entropy": Entropy,
        "margin": Margin,
        "went": Went,
        "went_norm": WentNorm,
        "hal_r": HalR,
        "hal_g": HalG,
        "mahalanobis": Mahalanobis,
        "knn_distance": KnnDistance,
        "galaxy": Galaxy,
        "direct": Direct,
        "flqmi": Flqmi,
        "diversity": Diversity,
        "random": Random,
    }
)

__all__ = ["SCORERS", "StoredScorer"]
