"""The default on boxes: the classification's default scorer over detections, with background.

Every detection of a labeled picture is an example of its class or of background; what the trunk
sees in its box are the features. The re-calibration layer, the one-class error and the log-odds of
each tail class are those of ``models.scorers.rarefirst``. A picture has its best detection's, for
each tail class apart: one rare box does not drown among many common ones. Tail classes take turns.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.detection.matching import LabeledSlots
from models.detection.scorers.base import PictureScores, State, most
from models.detection.slots import Slots
from models.errors import NotEnoughLabels
from models.scorers.rarefirst import RareFirst
from models.types import ClassSpace, Examples, FloatArray, LabeledExamples, numbered

_BACKGROUND = "background"
_NOTHING = -1e3  # log-odds of a picture without any detection
_ROWS = 20_000


class RareFirstBoxes:
    """Rarest box first, tail classes in turn.

    Needs a tail class, and labeled boxes that the detector finds.
    """

    learns: ClassVar[bool] = True
    objects: ClassVar[bool] = True
    tail: ClassVar[bool] = True

    def __init__(self, config: MinerConfig, *, patch_size: int) -> None:
        self.patch_size = patch_size
        self._boxes = RareFirst(config)

    def fit(self, labeled: LabeledSlots, pool: Slots, *, classes: ClassSpace, seed: int) -> Self:
        """Fit on detections.

        Raises: NotEnoughLabels: if detections are of one kind only, objects of a class or
            background.
        """
        if len(np.unique(labeled.targets)) < 2:
            raise NotEnoughLabels("all detections of the labeled pictures are of one kind")
        self._boxes.fit(
            LabeledExamples(numbered(self._view(labeled.slots)), labeled.targets),
            numbered(self._view(pool)),
            classes=with_background(classes, labeled),
            seed=seed,
        )
        return self

    def scores(self, slots: Slots, count: int) -> PictureScores:
        """Log-odds of each picture's best detection, for each tail class and for all together."""
        boxes = self._boxes
        columns = len(boxes.served_names) + 1
        rarity = np.zeros(len(slots))
        odds = np.zeros((len(slots), columns))
        for start in range(0, len(slots), _ROWS):
            here = slice(start, start + _ROWS)
            rows = np.arange(len(slots))[here]
            rarity[here], odds[here] = boxes.log_odds(numbered(self._view(slots.take(rows))))
        best = most(odds, slots, count, none=_NOTHING)
        return PictureScores(
            together=best[:, -1],
            apart=best[:, :-1],
            names=boxes.served_names,
            share=boxes.turn_share,
            rarity=most(rarity[:, None], slots, count, none=0.0)[:, 0],
        )

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit, over detections."""
        return {f"boxes_{name}": value for name, value in self._boxes.metrics.items()}

    @property
    def over_detections(self) -> RareFirst:
        """The scorer that says of each detection what it is."""
        return self._boxes

    def examples(self, slots: Slots) -> Examples:
        """Detections as that scorer takes them."""
        return numbered(self._view(slots))

    def _view(self, slots: Slots) -> FloatArray:
        """What the trunk sees: the tower's patch was made for the classes that were known."""
        return slots.features[:, self.patch_size :]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The scorer over detections, and what it holds of the classes."""
        space = self._boxes.classes
        priors = np.asarray(space.class_priors or (), dtype=np.float64)
        return {**self._boxes.state(), "priors": priors}

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take it back."""
        priors = tuple(state["priors"].astype(np.float64).tolist())
        space = ClassSpace((*classes.names, _BACKGROUND), classes.tail, priors or None)
        self._boxes.restore({k: v for k, v in state.items() if k != "priors"}, classes=space)
        return self


def with_background(classes: ClassSpace, labeled: LabeledSlots) -> ClassSpace:
    """K + 1 classes, the last of them background, with its share of the detections."""
    counts = np.bincount(labeled.targets, minlength=classes.size + 1).astype(np.float64) + 1
    shares = counts / counts.sum()
    if classes.class_priors is not None:
        priors = np.asarray(classes.class_priors) * (1 - shares[-1])
        shares = np.r_[priors, shares[-1]]
    return ClassSpace((*classes.names, _BACKGROUND), classes.tail, tuple(shares.tolist()))
