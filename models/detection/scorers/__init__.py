"""Ways to order pictures by their detections. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.detection.scorers.base import DetectionScorer
from models.detection.scorers.paper import Paper, PaperLogit, PaperMax, PaperNoRc
from models.detection.scorers.random import Random
from models.detection.scorers.rarefirst import RareFirstBoxes
from models.detection.scorers.tail_confidence import TailConfidence, TailConfidenceRc
from models.detection.scorers.uncertainty import Entropy, MaxScore

#: The order of whole pictures, where no scorer of boxes can be fitted.
DIVERSITY = "diversity"
DETECTION_SCORERS: Mapping[str, type[DetectionScorer]] = MappingProxyType(
    {
        "rarefirst": RareFirstBoxes,
        "tail_mass": TailConfidence,
        "tail_mass_rc": TailConfidenceRc,
        "paper": Paper,
        "paper_max": PaperMax,
        "paper_logit": PaperLogit,
        "paper_no_rc": PaperNoRc,
        "entropy": Entropy,
        "max_score": MaxScore,
        "random": Random,
    }
)

__all__ = ["DETECTION_SCORERS", "DIVERSITY", "DetectionScorer"]
