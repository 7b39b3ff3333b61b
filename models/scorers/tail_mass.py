"""The tail's share of a softmax, from the original head or from a re-calibrated one.

The free baseline that uses the tail list (METHODS sections 16 and 19). The order is that of the
share; what is computed is its log-odds, which also tells apart shares next to 0 and 1.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import RecalibrationConfig
from models.errors import NoTailClass
from models.recalibration import RecalibrationLayer
from models.scorers.base import OriginalHead
from models.scorers.needs import Needs
from models.scorers.softmax import Logs, SoftmaxScorer
from models.types import ClassSpace, Examples, LabeledExamples


class TailMass(SoftmaxScorer):
    """The tail's share of the original head's softmax.

    Needs a tail class and the original head. Where a plain head is fitted, a tail class must have
    a label; of the frozen model's own head it is believed that it knows them.

    Source: METHODS section 16, consequence 5.
    """

    needs: ClassVar[Needs] = Needs(tail=True, original_head=True)
    reason = "tail mass"

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Take the head; one that has no output for a side of the tail is refused."""
        super().fit(labeled, pool, classes=classes, seed=seed)
        told = self.told()
        is_tail = np.isin(np.arange(classes.size), classes.tail)
        if not told[is_tail].any() or not told[~is_tail].any():
            side = "common" if told[is_tail].any() else "tail"
            raise NoTailClass(
                f"the frozen model's own head has no output for any {side} class, so the tail's "
                "share is the same everywhere; take tail_mass_rc, which learns from labels"
            )
        return self

    def told(self) -> NDArray[np.bool_]:
        """(K,) the classes whose share is looked at."""
        if self._head is None or self._head.label is None:
            return np.ones(self.classes.size, dtype=bool)
        return np.isin(np.arange(self.classes.size), self._head.label)

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """Log-odds of the tail's share."""
        tail = np.isin(np.arange(logs.shape[1]), self.classes.tail)
        return log_sum(logs[:, tail]) - log_sum(logs[:, ~tail])


class TailMassAdjusted(TailMass):
    """The tail's share after prior scaling: q_k = p_k / pi_k, pi_k the class's share of the labels.

    Equal to adjusting logits by -ln pi_k. Of a head that was trained on other labels, or on
    re-weighted ones, the labels' shares are not the priors that it learned. Needs a tail class
    with a label, a label outside of the tail, and the original head. A class without a label is
    left out.

    Source: METHODS section 20.4, prior scaling.
    """

    needs: ClassVar[Needs] = Needs(
        tail=True, tail_labels=True, head_labels=True, original_head=True
    )
    reason = "tail mass, adjusted"

    def told(self) -> NDArray[np.bool_]:
        """Those of the head that have labels."""
        return super().told() & (self.seen > 0)

    def score(self, logs: Logs) -> NDArray[np.float64]:
        """Log-odds of the tail's share of q."""
        return super().score(self.adjusted(logs))

    def adjusted(self, logs: Logs) -> Logs:
        """(N, K) logarithms of q, up to a constant of each row."""
        without: Logs = np.full(logs.shape, -np.inf)
        there = self.seen > 0
        without[:, there] = logs[:, there] - np.log(self.seen[there] / self.seen.sum())
        return without


class TailMassRc(TailMass):
    """The tail's share of a regularised re-calibration layer's softmax.

    Features standardised, classes weighed alike, L2. Needs labels of two classes, one of
    them of the tail.

    Source: METHODS section 19; the likelihood half of the default.
    """

    needs: ClassVar[Needs] = Needs(classes=2, tail=True, tail_labels=True)
    form: ClassVar[RecalibrationConfig] = RecalibrationConfig(form="regularised")
    reason = "tail mass, re-calibrated"

    def head_of(self, labeled: LabeledExamples, classes: ClassSpace, seed: int) -> OriginalHead:
        """The re-calibration layer in the original head's place."""
        layer = RecalibrationLayer.fit(
            labeled.examples.dense().features,
            labeled.targets,
            num_classes=classes.size,
            config=self.form,
            seed=seed,
        )
        return OriginalHead(layer, num_classes=classes.size)


class TailMassPaperRc(TailMassRc):
    """The tail's share of the softmax of the paper's re-calibration layer.

    Focal loss, inverse frequencies, Adam, early stopping. Needs labels of two classes, one of
    them of the tail.

    Source: METHODS sections 2 and 19.
    """

    form = RecalibrationConfig(form="paper")
    reason = "tail mass, the paper's layer"


def log_sum(logs: Logs) -> NDArray[np.float64]:
    """(N, K') logarithms, of each row one at least finite, to (N,) the logarithm of their sum."""
    top = logs.max(axis=1, keepdims=True)
    summed: NDArray[np.float64] = top[:, 0] + np.log(np.exp(logs - top).sum(axis=1))
    return summed
