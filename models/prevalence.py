"""How many rare ones are left in the pool, from labels of random draws out of it.

Mining depletes the pool between one draw and the next, so shares of draws cannot be averaged. What
every draw speaks of is one number: the rare ones left now. A draw's pool held those and the rare
ones labeled since, which are known; so each draw is hypergeometric in that number, whatever was
mined in between and for whatever reason, and the likelihoods multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from models.errors import ShapeError

Floats = NDArray[np.float64]

_POINTS = 1500  # of the grid on which the likelihood is summed
_NEGLIGIBLE = 25.0  # below the largest log-likelihood, what a number adds cannot be seen
_NEAR_NONE = 0.25  # the prior Beta(1/4, 1) of the share expects few, and costs little elsewhere


@dataclass(frozen=True)
class Draw:
    """Labels of one uniform draw without replacement from the pool of its time.

    Attributes:
        drawn: labeled tasks of the draw.
        rare: rare ones among them.
        labeled_since: tasks of that pool that were labeled since, the drawn ones included.
        found_since: rare ones among those, the drawn ones included.
    """

    drawn: int
    rare: int
    labeled_since: int
    found_since: int


@dataclass(frozen=True)
class RareLeft:
    """An estimate of the rare ones among the unlabeled tasks.

    Attributes:
        likely: the most likely number.
        low, high: the ends of the interval, at least as likely to hold the truth as was asked for.
        at_most: an upper bound that holds at every look together, so that stopping when it is
            small does not make it wrong.
    """

    likely: int
    low: int
    high: int
    at_most: int


def rare_left(draws: Sequence[Draw], *, unlabeled: int, confidence: float = 0.95) -> RareLeft:
    """Estimate how many of the unlabeled tasks are rare.

    The interval is Clopper and Pearson's (1934), carried over to draws from a finite pool that
    shrinks: its lower end is a quantile under a prior that expects too few, its upper end one
    under a prior that expects too many. ``at_most`` is a prior-posterior-ratio bound.

    Args:
        draws: oldest first; those without a label may be left out.
        unlabeled: tasks that are unlabeled now, of those that all draws were made from.
        confidence: that the interval, and ``at_most``, hold the truth.
    Raises: ShapeError: without a drawn label, or if the numbers contradict each other.
    Source: Waudby-Smith and Ramdas 2020, arXiv:2006.04347, for ``at_most``.
    """
    _check(draws, unlabeled)
    alpha = 1 - confidence
    fewest = -min(draw.found_since - draw.rare for draw in draws)
    peak = _peak(draws, fewest, unlabeled)
    left, weight = _grid(draws, fewest, unlabeled, peak)
    log_likelihood = _log_likelihood(draws, left, unlabeled)
    likelihood = np.exp(log_likelihood - log_likelihood.max()) * weight
    expected_rare, expected_common = _expected(draws, left, unlabeled)
    low = 0
    if any(draw.rare for draw in draws):
        # Numbers below 0 are what the draws alone would allow; cutting them off first would
        # push the lower end above a pool from which all were found.
        low = max(0, _quantile(left, likelihood / expected_rare, alpha / 2))
    possible = left >= 0
    # At least one task drawn is taken for rare: the prior's end at "all are rare" is not 0.
    many = likelihood / np.maximum(expected_common, expected_common.max() * 1e-9)
    high = _quantile(left[possible], many[possible], 1 - alpha / 2)
    likely = max(0, peak)
    return RareLeft(
        likely=likely,
        low=min(low, likely),
        high=min(unlabeled, max(high, likely)),
        at_most=_at_most(draws, unlabeled, left, likelihood, peak, alpha),
    )


def _check(draws: Sequence[Draw], unlabeled: int) -> None:
    if not any(draw.drawn for draw in draws):
        raise ShapeError("no label of a random draw: nothing can be said of what is left")
    if unlabeled < 0:
        raise ShapeError(f"found {unlabeled} unlabeled tasks; expected 0 or more")
    for draw in draws:
        common, missed = draw.drawn - draw.rare, draw.labeled_since - draw.found_since
        if not (0 <= draw.rare <= draw.found_since and 0 <= common <= missed):
            raise ShapeError(f"found {draw}; expected the drawn ones among those labeled since")


def _log_likelihood(draws: Sequence[Draw], left: Floats, unlabeled: int) -> Floats:
    """(G,) numbers of rare ones left to their log-likelihood, but for a constant."""
    total: Floats = np.zeros(len(left))
    for draw in draws:
        rare = left + draw.found_since
        common = unlabeled + draw.labeled_since - rare
        total += _log_falling(rare, draw.rare) + _log_falling(common, draw.drawn - draw.rare)
    return total


def _log_falling(values: Floats, count: int) -> Floats:
    """Logarithm of values * (values - 1) * ... of ``count`` factors."""
    if count <= 2:
        # What most draws come to; an order of magnitude faster than two gamma functions.
        logs: Floats = np.zeros(len(values))
        for k in range(count):
            logs += np.log(np.maximum(values - k, 1e-300))
        return logs
    found: Floats = gammaln(values + 1) - gammaln(np.maximum(values - count, -0.5) + 1)
    return found


def _expected(draws: Sequence[Draw], left: Floats, unlabeled: int) -> tuple[Floats, Floats]:
    """(G,) how many rare and how many common ones the draws should have brought."""
    rare: Floats = np.zeros(len(left))
    drawn = 0.0
    for draw in draws:
        rare += draw.drawn * (left + draw.found_since) / (unlabeled + draw.labeled_since)
        drawn += draw.drawn
    return rare, drawn - rare


def _peak(draws: Sequence[Draw], fewest: int, most: int) -> int:
    """The most likely number: the likelihood is log-concave, so halving finds it."""
    low, high = fewest, most
    while low < high:
        middle = (low + high) // 2
        here = _log_likelihood(draws, np.asarray([middle, middle + 1.0]), most)
        if here[1] > here[0]:
            low = middle + 1
        else:
            high = middle
    return low


def _grid(draws: Sequence[Draw], fewest: int, most: int, peak: int) -> tuple[Floats, Floats]:
    """(G,) numbers that matter, ascending, and how many each stands for."""
    top = _log_likelihood(draws, np.asarray([float(peak)]), most)[0] - _NEGLIGIBLE
    ends = []
    for end in (fewest, most):
        near, far = peak, end
        while abs(far - near) > 1:
            middle = (near + far) // 2
            inside = _log_likelihood(draws, np.asarray([float(middle)]), most)[0] >= top
            near, far = (middle, far) if inside else (near, middle)
        ends.append(far)
    values = np.unique(np.linspace(ends[0], ends[1], _POINTS).round())
    if ends[0] < 0 < ends[1]:
        values = np.unique(np.append(values, 0.0))
    edges = np.concatenate([[values[0] - 0.5], (values[1:] + values[:-1]) / 2, [values[-1] + 0.5]])
    return values, np.diff(edges)


def _quantile(values: Floats, weights: Floats, share: float) -> int:
    """The smallest value up to which the weights come to ``share``."""
    if not len(values):
        return 0
    sums = np.cumsum(weights)
    place = int(np.searchsorted(sums, share * sums[-1]))
    return int(values[min(place, len(values) - 1)])


def _at_most(
    draws: Sequence[Draw],
    unlabeled: int,
    left: Floats,
    likelihood: Floats,
    peak: int,
    alpha: float,
) -> int:
    """The largest number whose likelihood is at least ``alpha`` of the prior's mean of it.

    The prior is of the rare ones in the first draw's pool, which no label changes: so the ratio
    is a martingale under the truth, and passes 1/alpha at any look with probability alpha.
    """
    first = draws[0]
    size = unlabeled + first.labeled_since
    edges = np.concatenate([left[:1] - 0.5, (left[1:] + left[:-1]) / 2, left[-1:] + 0.5])
    share = np.clip((edges + first.found_since + 0.5) / (size + 1), 0, 1) ** _NEAR_NONE
    weights = np.diff(edges)
    mean = float((np.diff(share) * likelihood / weights).sum())
    allowed = left[(likelihood / weights >= alpha * mean) & (left >= max(0, peak))]
    return int(allowed[-1]) if len(allowed) else max(0, peak)
