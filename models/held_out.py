"""Likelihoods of labels by layers that were not fitted on them: what a calibration is fitted on.

Three folds; of many labels a part, each of which then stands for several. The pool is judged by the
same layers, since one that has seen all labels scores the tail higher than they do.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.calibration import (
    Calibration,
    PoolLogOdds,
    calibrate,
    enough,
)
from models.folds import stratified_folds
from models.recalibration import RecalibrationLayer
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples

BoolArray = NDArray[np.bool_]

_FOLDS = 3
_MOST_ROWS = 1500  # of the tail, and of the rest: more cost time and change nothing (measured)
_POOL_ROWS = 5000
_LEAST, _MOST = 1e-30, 1 - 2.0**-24  # likelihoods in single precision that have log-odds


class Judges(Protocol):
    """What says how likely a row is rare."""

    @property
    def layer(self) -> RecalibrationLayer:
        """From features to logits."""

    def again(self, features: FloatArray, targets: IntArray) -> RecalibrationLayer:
        """The layer that other labels would have given."""

    def weigh_up(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(K, B) logits to (B,) likelihood at the priors, and what else it knows."""


def fit_calibration(
    judge: Judges,
    labeled: LabeledExamples,
    pool: Examples,
    *,
    classes: ClassSpace,
    unbiased: BoolArray | None,
    seed: int,
) -> Calibration:
    """Calibrate a judge on the labels that it was fitted on, and the pool.

    Args:
        judge: fitted on all labels.
        labeled: those labels.
        pool: unlabeled rows.
        classes: names, tail and priors.
        unbiased: (N,) labels that our queue did not choose; None: all.
        seed: of folds, and of what is left out.
    """
    targets = labeled.targets
    chosen = np.zeros(len(targets), dtype=bool) if unbiased is None else ~unbiased
    labels = int(np.isin(targets[~chosen], classes.tail).sum())
    if not enough(labels, int((~chosen).sum()) - labels) or not len(pool):
        return Calibration(labels=labels)
    rng = np.random.default_rng(seed)
    rows, counts = _some(labeled, classes, chosen, rng)
    folds = stratified_folds(targets[rows], _FOLDS, rng)
    at_most = min(_POOL_ROWS, len(pool))
    places = np.sort(rng.choice(len(pool), at_most, replace=False))
    # By id: whatever order labels and pool come in.
    some = pool.take(np.argsort(pool.ids, kind="stable")[places]).dense()
    examples = labeled.examples.take(rows).dense()
    odds: NDArray[np.float64] = np.zeros(len(rows))
    by_folds: NDArray[np.float64] = np.zeros(at_most)
    for fold in range(_FOLDS):
        out, own = folds == fold, slice(fold, None, _FOLDS)
        if len(np.unique(targets[rows][~out])) < 2:
            return Calibration(labels=labels)
        layer = judge.again(examples.features[~out], targets[rows][~out])
        odds[out] = _said(judge, layer, examples.features[out])
        by_folds[own] = _said(judge, layer, some.features[own])
    return calibrate(
        odds,
        targets[rows],
        PoolLogOdds(_said(judge, judge.layer, some.features), by_folds),
        classes=classes,
        chosen=chosen[rows],
        weights=counts,
    )


def _said(judge: Judges, layer: RecalibrationLayer, features: FloatArray) -> NDArray[np.float64]:
    """(N,) log-odds of what a judge makes of a layer's logits, in double precision."""
    logits = torch.from_numpy(np.ascontiguousarray(layer.logits(features).T)).double()
    said: NDArray[np.float64] = log_odds(judge.weigh_up(logits)[0]).numpy()
    return said


def log_odds(likelihood: Tensor) -> Tensor:
    """(B,) likelihoods to (B,) float64 log-odds, finite."""
    bounded = likelihood.double().clamp(_LEAST, _MOST)
    return bounded.log() - torch.log1p(-bounded)


def calibrated(likelihood: Tensor, by: Calibration) -> Tensor:
    """(B,) likelihoods at the priors to (B,) calibrated ones, in the same order."""
    if not by.calibrated:
        return likelihood
    return torch.sigmoid(by.slope * log_odds(likelihood) + by.offset).to(likelihood.dtype)


def _some(
    labeled: LabeledExamples, classes: ClassSpace, chosen: BoolArray, rng: np.random.Generator
) -> tuple[IntArray, NDArray[np.float64]]:
    """Rows of the labels that are used, and how many labels each of them stands for."""
    order = np.argsort(labeled.examples.ids, kind="stable")
    is_tail = np.isin(labeled.targets, classes.tail)
    rows, counts = [], []
    for mask in (is_tail & ~chosen, ~is_tail & ~chosen, is_tail & chosen, ~is_tail & chosen):
        members = order[mask[order]]
        if len(members):
            kept = members[np.sort(rng.permutation(len(members))[:_MOST_ROWS])]
            rows.append(kept)
            counts.append(np.full(len(kept), len(members) / len(kept)))
    return np.concatenate(rows), np.concatenate(counts)
