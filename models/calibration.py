"""Log-odds of rare against common as a probability that holds in the pool.

The layer is trained with all classes alike and shrunk, and held-out rows of a class with few labels
score lower than those that it was fitted on. So its log-odds are stretched and shifted by what
out-of-fold labels say (Platt), which never changes an order. Only labels that our queue did not
choose shape it: mined ones were chosen for their scores. Where the pool contradicts the share of
the rare among those labels, since somebody picked them by hand say, the share is estimated from
the pool's own log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from models.errors import ShapeError
from models.types import ClassSpace, FloatArray, IntArray

BoolArray = NDArray[np.bool_]
Method = Literal["priors", "platt", "platt, shares of the pool"]

_METHODS: tuple[Method, ...] = ("priors", "platt", "platt, shares of the pool")
_ENOUGH = 8  # labels of the tail, and of the rest, that our queue did not choose
# How far a fit may move before labels must insist: standard deviations of a Gaussian around the
# log-odds as they are.
_SLOPE_SPREAD, _OFFSET_SPREAD = 0.5, 1.0
#: Within this factor the pool does not contradict the labels: its own estimate is no better.
_CONTRADICTS = 4.0
_SAME = 1.5  # factor below which priors are the labels' own word
_LEAST_SHARE = 1e-12  # of the tail: what nobody expects still has log-odds
_FARTHEST = 10.0  # by which the model that is used may be shifted against the folds'
_POOL_ROWS = 20_000  # more say no more


@dataclass(frozen=True)
class Calibration:
    """A straight line from log-odds to log-odds; the default leaves them as they are.

    Attributes:
        slope: above 0. offset: added after it.
        share: of the tail in the pool; 0 where it was not looked for.
        labels: tail labels that it was fitted on.
        method: ``priors``: too few labels, the log-odds at the priors stay as they are; ``platt``:
            fitted, at the priors' share; or fitted, at the share that the pool's log-odds speak of.
    """

    slope: float = 1.0
    offset: float = 0.0
    share: float = 0.0
    labels: int = 0
    method: Method = "priors"

    @property
    def calibrated(self) -> bool:
        """Whether labels allowed a fit."""
        return self.method != "priors"

    def likelihood(self, log_odds: FloatArray) -> NDArray[np.float64]:
        """(N,) log-odds at the priors to (N,) probabilities, in the same order."""
        found: NDArray[np.float64] = expit(self.slope * np.asarray(log_odds, float) + self.offset)
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """Figures for the model card."""
        found = {"calibrated": float(self.calibrated), "calibration_labels": float(self.labels)}
        if self.calibrated:
            found |= {
                "calibration_slope": self.slope,
                "calibration_offset": self.offset,
                "tail_share": self.share,
            }
        return found

    def state(self) -> NDArray[np.float64]:
        """All of it as five numbers."""
        numbers = [self.slope, self.offset, self.share, self.labels, _METHODS.index(self.method)]
        return np.asarray(numbers, dtype=np.float64)

    @classmethod
    def from_state(cls, state: NDArray[np.generic]) -> Calibration:
        """What ``state`` came from."""
        slope, offset, share, labels, method = state.astype(np.float64).tolist()
        return cls(slope, offset, share, int(labels), _METHODS[int(method)])


@dataclass(frozen=True)
class PoolLogOdds:
    """What the unlabeled rows look like, from the same rows twice.

    A model that has seen all labels scores tail rows higher than one that has seen two thirds of
    them. So the line, which is fitted on folds, must be judged by the folds' models too.

    Attributes:
        used: (M,) log-odds from the model that is used.
        held_out: (M,) from the models of the folds, each row from one of them.
    """

    used: FloatArray
    held_out: FloatArray


def calibrate(
    log_odds: FloatArray,
    targets: IntArray,
    pool: PoolLogOdds,
    *,
    classes: ClassSpace,
    chosen: BoolArray | None = None,
    weights: FloatArray | None = None,
) -> Calibration:
    """Fit the line on out-of-fold log-odds.

    Args:
        log_odds: (N,) of tail against rest, at the priors of ``priors_of``, of labeled rows, each
            from a model that was not fitted on that row.
        targets: (N,) their classes.
        pool: log-odds of unlabeled rows, at the same priors.
        classes: names, tail and priors. Without priors the share of the tail is the pool's word.
        chosen: (N,) labels that our queue chose for their likelihood; None: no label.
        weights: (N,) how many labels each stands for, where some were left out; None: one each.
    Raises: ShapeError: if shapes do not fit, or log-odds are not finite.
    Source: Platt 1999; Saerens et al. 2002 for the shares (its likelihood, maximised directly).
    """
    chosen = np.zeros(len(targets), dtype=bool) if chosen is None else chosen
    counts = np.ones(len(targets)) if weights is None else np.asarray(weights, np.float64)
    _check(log_odds, targets, pool, chosen)
    is_tail = np.isin(targets, classes.tail)
    known = float(counts[chosen & is_tail].sum()), float(counts[chosen & ~is_tail].sum())
    fair, labels = ~chosen, int(is_tail[~chosen].sum())
    if not enough(labels, int(fair.sum()) - labels) or not len(pool.used):
        return Calibration(labels=labels)
    priors = priors_of(classes, np.bincount(targets, weights=counts, minlength=classes.size))
    told = min(max(float(priors[list(classes.tail)].sum()), _LEAST_SHARE), 1 - _LEAST_SHARE)
    own = float(counts[fair & is_tail].sum() / counts[fair].sum())
    # At the labels' own shares every label counts alike: the surest fit, and what the pool's
    # share is asked of.
    moved = _logit(own) - _logit(told)
    odds = np.asarray(log_odds, float)[fair]
    slope, offset = _platt(odds + moved, is_tail[fair], counts[fair])
    offset += slope * moved
    share = _share_in_pool(slope * np.asarray(pool.held_out, float) + offset, own, known)
    # Priors that differ from the labels' own shares were learned elsewhere, and are surer.
    hearsay = _apart(told, own) < _SAME and _apart(share, told) > _CONTRADICTS
    if classes.class_priors is None or hearsay:
        method: Method = "platt, shares of the pool"
        offset += _logit(share) - _logit(own)
    elif told * float(counts[fair & ~is_tail].sum()) < _ENOUGH:
        # So few labels of the rest say nothing of how many of them look rare in such a pool.
        return Calibration(labels=labels)
    else:
        method, share = "platt", told
        slope, offset = _platt(odds, is_tail[fair], _to_priors(counts[fair], targets[fair], priors))
    offset += _match(pool, slope, offset)
    return Calibration(slope, offset, share, labels, method)


def enough(tail: int, rest: int) -> bool:
    """Whether so many labels that our queue did not choose can be fitted on."""
    return min(tail, rest) >= _ENOUGH


def priors_of(classes: ClassSpace, seen: NDArray[np.integer] | FloatArray) -> NDArray[np.float64]:
    """(K,) the priors of the classes; where there are none, the shares of the labels, smoothed."""
    if classes.class_priors is not None:
        return np.asarray(classes.class_priors, dtype=np.float64)
    counts = np.asarray(seen, dtype=np.float64) + 1
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _apart(one: float, other: float) -> float:
    return max(one / other, other / one)


def _logit(share: float) -> float:
    return float(logit(share))


def _check(log_odds: FloatArray, targets: IntArray, pool: PoolLogOdds, chosen: BoolArray) -> None:
    used, held_out = pool.used, pool.held_out
    if not log_odds.shape == chosen.shape == targets.shape or used.shape != held_out.shape:
        raise ShapeError(
            f"found log-odds {log_odds.shape}, targets {targets.shape}, chosen {chosen.shape} and "
            f"a pool {used.shape} and {held_out.shape}; expected (N,) three times and (M,) twice"
        )
    if not all(np.isfinite(odds).all() for odds in (log_odds, used, held_out)):
        raise ShapeError("found log-odds that are not finite; expected numbers")


def _to_priors(
    weights: NDArray[np.float64], targets: IntArray, priors: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N,) weights, so that the classes come to their priors.

    The sum is the number of equal weights that these unequal ones are worth.
    """
    sums = np.bincount(targets, weights=weights, minlength=len(priors))
    ratio = priors[targets] / sums[targets]
    scale = (weights * ratio).sum() / (weights * ratio**2).sum()
    found: NDArray[np.float64] = weights * ratio * scale
    return found


def _platt(
    log_odds: NDArray[np.float64], is_tail: BoolArray, weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Slope, above 0, and offset: the most likely ones, given that neither is far from none."""
    truth = is_tail.astype(np.float64)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, offset = np.exp(values[0]), values[1]
        told = slope * log_odds + offset
        wrong = weights * (expit(told) - truth)
        spread = np.asarray([_SLOPE_SPREAD, _OFFSET_SPREAD])
        value = float((weights * (np.logaddexp(0, told) - truth * told)).sum())
        value += 0.5 * float(((values / spread) ** 2).sum())
        gradient = np.asarray([(wrong * slope * log_odds).sum(), wrong.sum()])
        return value, gradient + values / spread**2

    bounds = [(-2.0, 2.0), (-20.0, 20.0)]  # far outside of what the spreads allow
    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), float(found[1])


def _share_in_pool(log_odds: NDArray[np.float64], told: float, known: tuple[float, float]) -> float:
    """The share of the tail that makes the pool's log-odds most likely.

    Args:
        log_odds: (M,) calibrated at the share ``told``.
        told: that share.
        known: tail and other labels that mining took out of the pool.
    """
    pool = np.sort(log_odds)
    if len(pool) > _POOL_ROWS:
        # Evenly spaced ones of the sorted: the same whatever order the rows came in.
        pool = pool[np.linspace(0, len(pool) - 1, _POOL_ROWS).round().astype(np.int64)]
    scale = len(log_odds) / max(len(pool), 1)
    # How many times likelier each row is under the tail than under the rest, less 1.
    more = np.expm1(np.minimum(pool - logit(told), 500.0))
    rare, common = known[0] + 0.5, known[1] + 0.5

    def slope(share: float) -> float:
        return float(
            scale * (more / (1 + share * more)).sum() + rare / share - common / (1 - share)
        )

    low, high = 1e-9, 1 - 1e-9
    for _ in range(60):  # the likelihood is concave: its slope falls
        middle = float(expit((logit(low) + logit(high)) / 2))
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low


def _match(pool: PoolLogOdds, slope: float, offset: float) -> float:
    """The shift after which the model that is used expects as many rare ones as the folds' do."""
    expected = float(expit(slope * np.asarray(pool.held_out, float) + offset).mean())
    used = slope * np.asarray(pool.used, float) + offset
    low, high = -_FARTHEST, _FARTHEST
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(used + middle).mean() < expected else (low, middle)
    return (low + high) / 2


def from_part(state: Mapping[str, NDArray[np.generic]], name: str) -> Calibration:
    """A stored calibration; the default for a version from before there was one."""
    return Calibration.from_state(state[name]) if name in state else Calibration()
