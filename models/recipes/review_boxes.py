"""Pictures whose boxes should be looked at again: the hardest, or where the detector disagrees.

Only pictures that were learned from are named, as in ``review_labels``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from models.backbones.detector import Detector
from models.detection.boxes import to_text
from models.rebalancing import Strategy
from models.recipes.box_set import BoxSet
from models.recipes.find_boxes import find_boxes
from models.recipes.review_labels import MOST, NEUTRAL, KnowsHardest, Review, Suspect
from models.recipes.teach_boxes import losses_of
from models.types import IntArray

_SURE = 0.5


def review_boxes(
    candidate: Detector, known: BoxSet, ids: IntArray, *, strategy: Strategy
) -> Review:
    """Find pictures to look at again.

    By difficulty all that are harder than neutral are named; by loss those on which the detector is
    sure (.5) of other numbers of boxes than were drawn.

    Args:
        candidate: the trained detector.
        known: what it learned from.
        ids: (N,) their tasks.
        strategy: as the training left it.
    """
    network, device = candidate.network, candidate.device
    losses = losses_of(network, known, candidate.scaled, device=device).double().numpy()
    found = find_boxes(network, known.pictures, candidate.scaled, device=device)
    names = candidate.class_names
    said = [counted(names[int(k)] for k in one[one[:, 5] >= _SURE, 4].tolist()) for one in found]
    drawn = [counted(box.label for box in some if box.label in names) for some in known.boxes]
    if isinstance(strategy, KnowsHardest):
        rows, difficulties = (part.numpy() for part in strategy.hardest(len(ids)))
        scores = np.ones(len(ids))
        scores[rows] = difficulties
        suspicious = [n for n in rows.tolist() if scores[n] > NEUTRAL]
    else:
        scores = losses
        order = np.argsort(-losses, kind="stable").tolist()
        suspicious = [n for n in order if said[n] != drawn[n]]
    return Review(
        by="difficulty" if isinstance(strategy, KnowsHardest) else "loss",
        out_of_sample=False,
        suspects=tuple(
            Suspect(
                id=int(ids[n]),
                label=to_text(known.boxes[n]),
                instead=said[n],
                label_share=float(np.exp(-losses[n])),
                instead_share=float(1 - np.exp(-losses[n])),
                score=float(scores[n]),
            )
            for n in suspicious[:MOST]
        ),
    )


def counted(labels: Iterable[str | None]) -> str:
    """How many boxes of each class, in words: ``2 cup, 1 spoon``."""
    counts = Counter(str(label) for label in labels)
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "nothing"
