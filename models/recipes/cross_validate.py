"""Candidates of parts of the labels, judged by the labels that they were not trained on.

Where too few examples are held out, what a fine-tune is worth is estimated by three of them. Each
has a third fewer labels than the candidate, so the estimate is rather too low.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.backbones import Backbone
from models.config import FinetuneConfig
from models.errors import Diverged
from models.folds import stratified_folds
from models.recipes.evaluate import embed_pictures, shares_of
from models.recipes.finetune import Finetuned, finetune
from models.recipes.finetune_loop import CHECKPOINT
from models.recipes.incumbent import Incumbent
from models.recipes.labeled_pictures import BoolArray, LabeledPictures
from models.recipes.new_head import trained
from models.recipes.stage_files import Arrays, stage
from models.types import IntArray, Progress

logger = logging.getLogger(__name__)

FOLDS = 3


@dataclass(frozen=True)
class OutOfFold:
    """What was said of the examples that are not held out, by networks that did not learn them.

    Attributes:
        rows: (M,) of the labels, ascending.
        candidate: (M, K) softmax of the fine-tuned networks.
        incumbent: (M, K) softmax of the incumbent.
    """

    rows: IntArray
    candidate: NDArray[np.float64]
    incumbent: NDArray[np.float64]


def cross_validate(
    incumbent: Incumbent,
    labels: LabeledPictures,
    *,
    config: FinetuneConfig,
    run_dir: Path,
    seed: int,
    progress: Callable[[int], Progress],
) -> OutOfFold:
    """Fine-tune once for each fold on the others; fold k is kept in ``fold-k``.

    Args:
        incumbent: what every training starts from.
        labels: held-out ones take no part.
        config: of the trainings.
        run_dir: what lies there is resumed.
        seed: of folds and trainings.
        progress: from the number of a fold to who is told of its training.

    Raises:
        Diverged: if a training did.
        NotEnoughLabels: if without some fold one class only has labels.
    """
    folds = _folds(labels, seed)
    parts = []
    for fold in range(FOLDS):
        asked, others = folds == fold, (folds >= 0) & (folds != fold)
        folder = run_dir / f"fold-{fold}"

        def make(
            fold: int = fold,
            asked: BoolArray = asked,
            others: BoolArray = others,
            folder: Path = folder,
        ) -> Arrays:
            start, tuned = train(
                incumbent,
                labels,
                others,
                config=config,
                run_dir=folder,
                seed=seed + fold + 1,
                progress=progress(fold),
            )
            candidate = trained(tuned.network, start, device=config.device)
            return {
                "candidate": said_of(candidate, labels, asked),
                "incumbent": incumbent.shares(asked, fit_on=others),
            }

        said = stage(folder / "said.safetensors", make)
        for checkpoint in folder.rglob(CHECKPOINT):
            checkpoint.unlink()  # larger than all else, and what came of it is kept
        parts.append((np.flatnonzero(asked), said["candidate"], said["incumbent"]))
    rows = np.concatenate([rows for rows, _, _ in parts])
    order = np.argsort(rows)
    return OutOfFold(
        rows[order],
        np.concatenate([part for _, part, _ in parts]).astype(np.float64)[order],
        np.concatenate([part for _, _, part in parts]).astype(np.float64)[order],
    )


def train(
    incumbent: Incumbent,
    labels: LabeledPictures,
    known: BoolArray,
    *,
    config: FinetuneConfig,
    run_dir: Path,
    seed: int,
    progress: Progress,
) -> tuple[Backbone, Finetuned]:
    """Fine-tune on some of the labels: what it started from, and what came of it.

    Args:
        incumbent: whose network is copied.
        labels: pictures and labels.
        known: (N,) which may be used, none of them held out; those for validation stop early only.
        config: budget, strategy, layers.
        run_dir: what lies there is resumed.
        seed: of everything random.
        progress: told after each step.
    Raises: as ``finetune``.
    """
    learned = known & ~labels.validation
    start = incumbent.start(learned)
    stops = known & labels.validation
    tuned = finetune(
        copy.deepcopy(start.network),
        labels.part(learned),
        mean=start.mean,
        std=start.std,
        config=config,
        run_dir=run_dir,
        seed=seed,
        validation=labels.part(stops) if stops.any() else None,
        progress=progress,
    )
    return start, tuned


def said_of(model: Backbone, labels: LabeledPictures, rows: BoolArray) -> NDArray[np.float64]:
    """(R, K) softmax of some pictures by a trained model.

    Raises: Diverged: if it is not finite.
    """
    _, logits = embed_pictures(model, labels.pictures[np.flatnonzero(rows)])
    if logits is None:
        return np.empty((0, labels.classes))
    if not np.isfinite(logits).all():
        raise Diverged("the trained network says nothing finite; take a smaller step size")
    return shares_of(logits)


def _folds(labels: LabeledPictures, seed: int) -> IntArray:
    """(N,) fold of each example, -1 where it is held out; by id, whatever order they come in."""
    folds = np.full(len(labels.ids), -1, dtype=np.int64)
    rows = np.flatnonzero(~labels.held_out)
    rows = rows[np.argsort(labels.ids[rows], kind="stable")]
    folds[rows] = stratified_folds(labels.targets[rows], FOLDS, np.random.default_rng(seed))
    return folds
