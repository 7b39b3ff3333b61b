"""Say of a few examples why a fitted miner takes them for rare.

For people who look at the head of a queue: nothing is ordered by it. Only these examples' features
and those of labels of tail classes are read.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError
from models.recipes.explain_boxes import explain_boxes
from models.recipes.fit_detection_miner import DetectionMiner
from models.recipes.fit_miner import Miner
from models.scorers.paper import Paper
from models.tasks.base import LabeledTexts
from models.types import Examples
from models.why_rare import NEAREST, WhyRare, nearest_known


def explain(
    miner: Miner | DetectionMiner, examples: Examples, known: LabeledTexts
) -> tuple[WhyRare, ...]:
    """Why each of a few examples is taken for rare.

    Args:
        miner: of either task.
        examples: N of them, as ``judge`` takes them.
        known: labels to compare to; what is not of a tail class is left out.

    Raises: ShapeError: if features are of another frozen model.
    """
    if not len(examples):
        return ()
    if len(known.examples) and known.examples.features.shape[1] != examples.features.shape[1]:
        raise ShapeError(
            f"found features {known.examples.features.shape} of labels and "
            f"{examples.features.shape} of what they are compared to; embed the images again"
        )
    if isinstance(miner, DetectionMiner):
        return explain_boxes(miner, examples, known)
    return _images(miner, examples, known)


def _images(miner: Miner, examples: Examples, known: LabeledTexts) -> tuple[WhyRare, ...]:
    classes = miner.classes
    index = {classes.names[k]: k for k in classes.tail}
    rows = np.flatnonzero([text in index for text in known.labels])
    targets = np.asarray([index[known.labels[row]] for row in rows], dtype=np.int64)
    some = known.examples.take(rows)
    nearest = nearest_known(examples, some, targets, tasks=some.ids, count=NEAREST)
    mass = _tail_mass(miner, examples)
    errors, above = _errors(miner, examples)
    return tuple(
        WhyRare(
            tail_mass=None if mass is None else float(mass[row]),
            error=None if errors is None else float(errors[row]),
            error_above=None if above is None else float(above[row]),
            nearest=nearest[row],
        )
        for row in range(len(examples))
    )


def _tail_mass(miner: Miner, examples: Examples) -> NDArray[np.float64] | None:
    """(N,) the tail's share of the original head's softmax; None without head or tail."""
    head, tail = miner.original_head, list(miner.classes.tail)
    if head is None or not tail:
        return None
    mass: NDArray[np.float64] = np.empty(len(examples))
    for start, shares in head.batches(examples):
        mass[start : start + shares.shape[1]] = shares[tail].sum(dim=0).numpy()
    return mass


def _errors(
    miner: Miner, examples: Examples
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """(N,) reconstruction errors, and how far above the usual: of what orders, else of the judge.

    The paper's autoencoders remember nothing of the pool that they could be compared to.
    """
    if isinstance(miner.scorer, Paper):
        return miner.scorer.errors(examples), None
    judge = miner.tail_judge
    if judge is None:
        return None, None
    errors = judge.reconstruction_error(examples)
    return errors, judge.above_usual(errors)
