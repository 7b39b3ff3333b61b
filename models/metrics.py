"""How well a queue finds the rare ones, and how well a likelihood is calibrated.

Everything about a queue is a function of ``hits``: whether the n-th task of the queue is rare.
Source: METHODS section 7; the budgets are those of MMM22's released code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import ShapeError
from models.scorers.best import best_rows
from models.types import FloatArray, IntArray

BoolArray = NDArray[np.bool_]

#: Budgets at which the published figures are taken, and the pool that they belong to.
PUBLISHED_BUDGETS = (50, 100, 500, *range(1000, 10_000, 1000))
PUBLISHED_POOL = 24_000
#: Tie-shuffles over which figures are averaged, where more than this share of scores is tied.
TIE_SHUFFLES, TIED_SHARE = 5, 0.01


@dataclass(frozen=True)
class MiningMetrics:
    """What one queue over a pool of N with M rare ones is worth.

    Attributes:
        average_precision: over the whole queue; random gives M / N, perfect 1.
        auc: area under precision against recall from the first to the last budget.
        average_f: mean of the F-measure over the budgets.
    """

    average_precision: float
    auc: float
    average_f: float


@dataclass(frozen=True)
class ReliabilityBin:
    """Examples of about the same likelihood.

    Attributes:
        low: lower edge of the bin.
        high: upper edge; it belongs to the bin only where it is 1.
        count: examples in it, at least 1.
        likelihood: their mean likelihood.
        share: which share of them is rare.
    """

    low: float
    high: float
    count: int
    likelihood: float
    share: float


def published_budgets(pool_size: int) -> tuple[int, ...]:
    """The published budgets, at the same fractions of a pool of this size (0.2 % to 37.5 %).

    In a small pool several of them fall together; each is there once.

    Raises: ShapeError: if the pool is empty.
    """
    if pool_size < 1:
        raise ShapeError(f"found a pool of {pool_size}; expected at least one example")
    scaled = (max(round(n * pool_size / PUBLISHED_POOL), 1) for n in PUBLISHED_BUDGETS)
    return tuple(dict.fromkeys(scaled))


def mining_metrics(
    hits: BoolArray, total: int, *, budgets: Sequence[int] | None = None
) -> MiningMetrics:
    """The published figures of one queue.

    Args:
        hits: (N,) whether the n-th task of the queue is rare. Where the queue is only the head of
            a pool's, what follows counts as never found.
        total: M, the rare ones in the pool.
        budgets: where to measure; None: ``published_budgets`` of N.

    Raises: ShapeError: if there is nothing to find, or fewer than ``hits`` holds.
    """
    check_hits(hits, total)
    chosen = published_budgets(len(hits)) if budgets is None else budgets
    return MiningMetrics(
        average_precision=average_precision(hits, total),
        auc=truncated_auc(hits, total, chosen),
        average_f=average_f(hits, total, chosen),
    )


def metrics_of_scores(scores: FloatArray, rare: BoolArray, *, seed: int = 0) -> MiningMetrics:
    """``mining_metrics`` of the order that scores give, high first.

    Where more than 1 % of the scores are tied, the mean over five random orders of the ties; else
    ties keep the order of the rows.

    Args:
        scores: (N,) without NaN.
        rare: (N,) which examples are rare.
        seed: of the random orders.

    Raises: ShapeError: if nothing is rare, or shapes differ.
    """
    if scores.shape != rare.shape:
        raise ShapeError(f"found {scores.shape} scores for {rare.shape} examples")
    total, places = int(rare.sum()), np.arange(len(scores), dtype=np.int64)
    if share_tied(scores) <= TIED_SHARE:
        return mining_metrics(rare[best_rows(scores, places, len(scores))], total)
    draw = np.random.default_rng(seed)
    each = [
        asdict(
            mining_metrics(rare[best_rows(scores, draw.permutation(places), len(scores))], total)
        )
        for _ in range(TIE_SHUFFLES)
    ]
    return MiningMetrics(**{name: float(np.mean([m[name] for m in each])) for name in each[0]})


def share_tied(scores: FloatArray) -> float:
    """Which share of the scores equals another one."""
    _, counts = np.unique(scores, return_counts=True)
    return float(counts[counts > 1].sum() / max(len(scores), 1))


def average_precision(hits: BoolArray, total: int) -> float:
    """Sum over the ranks of P(n) (R(n) - R(n - 1)): precision at each hit, over all M.

    Raises: ShapeError: as ``mining_metrics``.
    """
    check_hits(hits, total)
    ranks = np.flatnonzero(hits) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / total)


def truncated_auc(hits: BoolArray, total: int, budgets: Sequence[int]) -> float:
    """Trapezoids under precision against recall through the budgets, without extrapolation.

    Budgets beyond the queue are dropped.

    Raises: ShapeError: as ``mining_metrics``.
    """
    precision, recall = precision_recall(hits, total, budgets)
    return float(((precision[1:] + precision[:-1]) / 2 * np.diff(recall)).sum())


def average_f(hits: BoolArray, total: int, budgets: Sequence[int]) -> float:
    """Mean over the budgets of 2PR / (P + R), which is 0 where nothing was found.

    Budgets beyond the queue are dropped.

    Raises: ShapeError: as ``mining_metrics``.
    """
    precision, recall = precision_recall(hits, total, budgets)
    both = precision + recall
    return float(np.mean(2 * precision * recall / np.where(both > 0, both, 1)))


def precision_recall(
    hits: BoolArray, total: int, budgets: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B,) precision and (B,) recall at the budgets that the queue reaches.

    Raises: ShapeError: as ``mining_metrics``, and if no budget is in 1 ... N.
    """
    check_hits(hits, total)
    within = np.asarray([n for n in budgets if 1 <= n <= len(hits)], dtype=np.int64)
    if not len(within):
        raise ShapeError(f"found budgets {list(budgets)} for a queue of {len(hits)}; give smaller")
    found = np.cumsum(hits)[within - 1]
    return found / within, found / total


def found_at(hits: BoolArray, n: int) -> int:
    """How many of the first ``n`` are rare; a shorter queue is counted whole."""
    return int(np.count_nonzero(hits[: max(n, 0)]))


def precision_at(hits: BoolArray, n: int) -> float:
    """Share of rare ones among the first ``n``; what a shorter queue lacks counts as missed.

    Raises: ShapeError: if ``n`` is not positive.
    """
    if n < 1:
        raise ShapeError(f"found precision at {n}; expected at least 1")
    return found_at(hits, n) / n


def recall_by_class(
    targets: IntArray, in_pool: Sequence[int], tail: Sequence[int], n: int
) -> dict[int, float]:
    """Of each tail class the share of the pool's that is among the first ``n``.

    Args:
        targets: (N,) class of the n-th task of the queue.
        in_pool: (K,) how many of each class the pool holds.
        tail: the tail classes.
        n: how many tasks are labeled.

    Returns: tail class -> recall; a class of which the pool holds none is left out.
    """
    first = targets[: max(n, 0)]
    return {
        k: int(np.count_nonzero(first == k)) / int(in_pool[k]) for k in tail if int(in_pool[k]) > 0
    }


def reliability_bins(
    likelihood: FloatArray, rare: BoolArray, *, bins: int = 15
) -> tuple[ReliabilityBin, ...]:
    """The reliability diagram: equally wide bins of likelihood, those that hold something.

    Args:
        likelihood: (N,) in [0, 1].
        rare: (N,) what was true.
        bins: how many.

    Raises: ShapeError: if a likelihood is outside [0, 1] or NaN, if there are none, or if shapes
        differ.
    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    if likelihood.shape != rare.shape or not len(likelihood):
        raise ShapeError(f"found {likelihood.shape} likelihoods for {rare.shape} examples")
    values = likelihood.astype(np.float64)
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ShapeError("found likelihoods outside [0, 1], or NaN; expected probabilities")
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = np.bincount(place, weights=values, minlength=bins)
    true = np.bincount(place, weights=rare.astype(np.float64), minlength=bins)
    return tuple(
        ReliabilityBin(
            low=b / bins,
            high=(b + 1) / bins,
            count=int(counts[b]),
            likelihood=float(sums[b] / counts[b]),
            share=float(true[b] / counts[b]),
        )
        for b in np.flatnonzero(counts).tolist()
    )


def expected_calibration_error(likelihood: FloatArray, rare: BoolArray, *, bins: int = 15) -> float:
    """Mean distance of likelihood and share over the bins, weighted by their counts.

    Raises: ShapeError: as ``reliability_bins``.
    """
    each = reliability_bins(likelihood, rare, bins=bins)
    return sum(b.count * abs(b.likelihood - b.share) for b in each) / len(likelihood)


def check_hits(hits: BoolArray, total: int) -> None:
    """Refuse a queue of which nothing can be said.

    Raises: ShapeError: if nothing is rare, or ``hits`` holds more than there are.
    """
    if total < 1:
        raise ShapeError("the pool holds nothing rare: mining it cannot be measured")
    if hits.ndim != 1 or hits.dtype != np.bool_:
        raise ShapeError(f"found hits {hits.shape} of {hits.dtype}; expected (N,) of bool")
    if found_at(hits, len(hits)) > total:
        raise ShapeError(f"found {found_at(hits, len(hits))} hits; the pool holds {total} rare")
