"""Labels that a person should look at again: the hardest ones, or those that the model doubts.

Only labels that were learned from are named. To mend held-out labels where the candidate disagrees
would make the examples that judge it agree with it.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from models.rebalancing import Combined, Strategy
from models.recipes.labeled_pictures import LabeledPictures
from models.types import IntArray

MOST = 50  # a page of them: more are not looked at, and of less suspicion
_ALL = 2**31 - 1
_LEAST_SHARE = 1e-12
NEUTRAL = 1.0  # D of an example that was neither learned nor un-learned


class Suspect(BaseModel):
    """One label.

    Attributes:
        id: the task.
        label: what it was labeled.
        instead: the likeliest other class.
        label_share: what the model gives the label, of 1.
        instead_share: and the other class.
        score: difficulty D or loss, by which suspects are ordered.
    """

    model_config = ConfigDict(frozen=True)

    id: int
    label: str
    instead: str
    label_share: float
    instead_share: float
    score: float


class Review(BaseModel):
    """The most suspicious labels first (``review.json``).

    Attributes:
        by: what they are ordered by: how often they were un-learned, or the loss.
        out_of_sample: whether the shares are of networks that had not learned the label; else
            they are the candidate's own, which has learned most wrong labels by heart.
        suspects: at most 50.
    """

    model_config = ConfigDict(frozen=True)

    by: Literal["difficulty", "loss"]
    out_of_sample: bool
    suspects: tuple[Suspect, ...]


@runtime_checkable
class KnowsHardest(Protocol):
    """A strategy that follows each example."""

    def hardest(self, count: int) -> tuple[Tensor, Tensor]:
        """Rows of the training set and their difficulty, from high to low."""


def review_labels(
    labels: LabeledPictures,
    rows: IntArray,
    shares: NDArray[np.float64],
    *,
    strategy: Strategy,
    out_of_sample: bool,
) -> Review:
    """Find labels to look at again.

    By difficulty all that are harder than neutral are named; by loss those only of which the model
    thinks another class likelier.

    Args:
        labels: names and ids.
        rows: (M,) which labels were learned from, in the training's order.
        shares: (M, K) softmax of them.
        strategy: as the training left it.
        out_of_sample: whose shares they are.
    """
    targets = labels.targets[rows]
    each = np.arange(len(rows))
    own = shares[each, targets]
    others = shares.copy()
    others[each, targets] = -1.0
    instead = others.argmax(axis=1)
    knows = next((part for part in _parts(strategy) if isinstance(part, KnowsHardest)), None)
    if knows is None:
        scores = -np.log(np.maximum(own, _LEAST_SHARE))
        suspicious = np.lexsort((each, -scores))
        suspicious = suspicious[shares[suspicious, instead[suspicious]] > own[suspicious]]
    else:
        hardest, difficulties = (part.numpy() for part in knows.hardest(_ALL))
        # What a strategy added to the training set comes after the labels.
        suspicious = hardest[(difficulties > NEUTRAL) & (hardest < len(rows))]
        scores = np.ones(len(rows))
        scores[hardest[hardest < len(rows)]] = difficulties[hardest < len(rows)]
    return Review(
        by="loss" if knows is None else "difficulty",
        out_of_sample=out_of_sample,
        suspects=tuple(
            Suspect(
                id=int(labels.ids[rows[m]]),
                label=labels.class_names[targets[m]],
                instead=labels.class_names[instead[m]],
                label_share=float(own[m]),
                instead_share=float(shares[m, instead[m]]),
                score=float(scores[m]),
            )
            for m in suspicious[:MOST].tolist()
        ),
    )


def _parts(strategy: Strategy) -> list[Strategy]:
    return list(strategy.parts) if isinstance(strategy, Combined) else [strategy]
