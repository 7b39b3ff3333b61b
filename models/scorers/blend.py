"""How much the one-class error is worth beside the likelihood: asked of the labels themselves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.autoencoder import LogitAutoencoder, softmax
from models.config import RecalibrationConfig
from models.folds import stratified_folds
from models.recalibration import RecalibrationLayer
from models.types import ClassSpace, FloatArray, IntArray, LabeledExamples

DEFAULT_WEIGHT = 0.1
WEIGHTS = (0.0, 0.1, 0.25, 0.5)
_FOLDS = 3
_ENOUGH = 12  # tail labels from which the choice is more than chance
_MOST_ROWS = 1500  # head rows beyond this are left out of the folds: time, not accuracy


def log_error(autoencoder: LogitAutoencoder, logits: FloatArray) -> NDArray[np.float64]:
    """(N,) logarithm of the error, which is spread over decades."""
    logs: NDArray[np.float64] = np.log(autoencoder.errors(logits) + 1e-8)
    return logs


def choose_weight(
    labeled: LabeledExamples,
    classes: ClassSpace,
    autoencoder: LogitAutoencoder,
    *,
    recalibration: RecalibrationConfig,
    seed: int,
) -> float:
    """The weight of the standardised log error that orders held-out labels best.

    The layer is fitted again on each fold; the autoencoder is not, as it never saw a tail row.
    With fewer than a dozen tail labels a small fixed weight is used. The error must win by more
    than a hundredth of average precision to count more than nothing.
    """
    rng = np.random.default_rng(seed)
    is_tail = np.isin(labeled.targets, classes.tail)
    if is_tail.sum() < _ENOUGH or (~is_tail).sum() < _ENOUGH:
        return DEFAULT_WEIGHT
    head = np.flatnonzero(~is_tail)
    if len(head) > _MOST_ROWS:
        head = rng.choice(head, _MOST_ROWS, replace=False)
    rows = np.sort(np.concatenate([np.flatnonzero(is_tail), head]))
    features, targets = labeled.examples.features[rows], labeled.targets[rows]
    folds = stratified_folds(targets, _FOLDS, rng)
    logits = np.empty((len(rows), classes.size), dtype=np.float32)
    for fold in range(_FOLDS):
        out = folds == fold
        if len(np.unique(targets[~out])) < 2 or not out.any():
            return DEFAULT_WEIGHT
        layer = RecalibrationLayer.fit(
            features[~out],
            targets[~out],
            num_classes=classes.size,
            config=recalibration,
            seed=seed,
        )
        logits[out] = layer.logits(features[out])
    errors = log_error(autoencoder, logits)
    novelty = (errors - errors.mean()) / max(float(errors.std()), 1e-6)
    found = [
        _precision(targets, softmax(logits), novelty * weight, classes.tail) for weight in WEIGHTS
    ]
    best = int(np.argmax(found))
    return WEIGHTS[best] if found[best] > found[0] + 0.01 else WEIGHTS[0]


def _precision(
    targets: IntArray,
    probabilities: NDArray[np.float64],
    extra: NDArray[np.float64],
    tail: tuple[int, ...],
) -> float:
    """Mean over tail classes of average precision of the blended order."""
    means = []
    for k in tail:
        hits = targets == k
        if not hits.any():
            continue
        p = np.clip(probabilities[:, k], 1e-12, 1 - 1e-12)
        order = np.argsort(-(np.log(p) - np.log1p(-p) + extra), kind="stable")
        places = np.flatnonzero(hits[order])
        means.append(float((np.arange(1, len(places) + 1) / (places + 1)).mean()))
    return float(np.mean(means))
