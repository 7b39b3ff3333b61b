"""Where labels are thin: a Gaussian kernel sum over them, in logarithms, greedily added to.

A sum over hundreds of dimensions underflows, its logarithm does not. Adding an example only raises
the sums, so an old sum bounds a new one from below: a sum is brought up to date only where its
bound could be the smallest. The picks are exactly those of computing all sums anew each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.streaming import batch_rows, feature_batches, refuse_infinite, tensor_of
from models.types import Examples, FloatArray, IntArray

_MOST = 2000  # labeled rows that are kept; each stands for its share of all
_SAMPLE = 500  # pool rows whose distances say what is near
_CHUNK = 2048
_ROWS = 512  # of the pool that are looked at together
_BLOCK, _MOST_AT_ONCE = 32, 512  # sums that are brought up to date at once, at first and at most
_AHEAD = 128  # sums that are computed before they are needed
_ERROR = 1e-5  # relative, of squares in single precision, with room to spare


@dataclass(frozen=True)
class Surroundings:
    """Labeled examples in standardised features.

    Attributes:
        mean: (D,) float32 of the pool.
        scale: (D,) float32 of the pool; 1 where a feature does not vary.
        delta: squared distance at which a label counts 1/e.
        points: (A, D) features of the labels that are kept, as stored.
        each: how many labels each of them stands for.
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    delta: float
    points: FloatArray
    each: float

    @classmethod
    def fit(cls, labeled: Examples, pool: Examples, *, seed: int) -> Self:
        """Standardise by the pool, or by the labels where the pool has fewer than two rows."""
        rng = np.random.default_rng(seed)
        mean, scale = _moments(pool if len(pool) > 1 else labeled)
        kept = labeled
        if len(labeled) > _MOST:
            kept = labeled.take(np.sort(rng.choice(len(labeled), _MOST, replace=False)))
        found = cls(
            mean=mean,
            scale=scale,
            delta=1.0,
            points=kept.dense().features,
            each=len(labeled) / max(len(kept), 1),
        )
        return cls(mean, scale, found._typical(pool, rng), found.points, found.each)

    def _typical(self, pool: Examples, rng: np.random.Generator) -> float:
        """Median squared distance between pool rows, 1 where they are all alike."""
        by_id = np.argsort(pool.ids, kind="stable")
        some = pool.take(rng.permutation(by_id)[:_SAMPLE])
        points = self.standardised(some.dense().features)
        squared = _squared(points, points, _lengths(points)).numpy()
        pairs = squared[np.triu_indices(len(points), k=1)]
        for typical in (np.median(pairs), pairs.mean()) if len(pairs) else ():
            if typical > 0:
                return float(typical)
        return 1.0

    def standardised(
        self, features: FloatArray | Tensor, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """(N, D) in that precision."""
        given = features if isinstance(features, Tensor) else tensor_of(features)
        less = given.to(dtype) - torch.from_numpy(self.mean).to(dtype)
        return less.div_(torch.from_numpy(self.scale).to(dtype))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What must be stored."""
        return {
            "mean": self.mean,
            "scale": self.scale,
            "points": self.points,
            "numbers": np.asarray([self.delta, self.each]),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]]) -> Self:
        """What ``state`` came from."""
        delta, each = state["numbers"].astype(np.float64).tolist()
        return cls(
            mean=state["mean"].astype(np.float32),
            scale=state["scale"].astype(np.float32),
            delta=delta,
            points=state["points"],  # type: ignore[arg-type]
            each=each,
        )


class Density:
    """u(x) of each row of a pool, to be taken where it is smallest.

    Args:
        around: the labels.
        pool: N examples.
    """

    def __init__(self, around: Surroundings, pool: Examples) -> None:
        self._around = around
        self._pool = pool
        self._labels = around.standardised(around.points)
        self._lengths = _lengths(self._labels)
        # What was added: standardised, in a buffer that doubles when it is full.
        self._added = 0
        self._picks = torch.empty((_BLOCK, pool.features.shape[1]), dtype=torch.float64)
        # Logarithms that are not above the true ones, and how many picks they count; -1: bounds.
        self._least: NDArray[np.float64] = np.full(len(pool), -np.inf)
        self._counted: IntArray = np.zeros(len(pool), dtype=np.int64)
        if len(around.points):
            self._bound()

    @property
    def known(self) -> bool:
        """Whether there is anything to be near to."""
        return self._added > 0 or len(self._around.points) > 0

    def add(self, row: int) -> None:
        """From now on count a row of the pool like a label."""
        if self._added == len(self._picks):
            self._picks = torch.cat([self._picks, torch.empty_like(self._picks)])
        self._picks[self._added] = self._points(np.asarray([row]))[0]
        self._added += 1

    def thinnest(self, taken: NDArray[np.bool_]) -> int:
        """The row with the smallest sum of those that are not taken; ties by id."""
        is_open, block = ~taken, _BLOCK
        # What was counted before is soon up to date again, and says how low the others must be.
        known = np.flatnonzero(is_open & (self._counted >= 0) & (self._counted < self._added))
        self._count(self._lowest(known, block))
        while True:
            current = is_open & (self._counted == self._added)
            rows = np.flatnonzero(current)
            sums = self._least[rows].round(9)
            best = sums.min() if len(rows) else np.inf
            stale = np.flatnonzero(is_open & ~current & (self._least <= best + 1e-9))
            if not len(stale):
                ties = rows[sums == best]
                return int(ties[np.argmin(self._pool.ids[ties])])
            stale = self._lowest(stale, block)
            if self._counted[stale].min() < 0:
                # The next ones will be wanted soon, and many at once cost little more than one.
                ahead = self._lowest(np.flatnonzero(is_open & (self._counted < 0)), _AHEAD)
                stale = np.union1d(stale, ahead)
            self._count(stale)
            block = min(2 * block, _MOST_AT_ONCE)

    def _lowest(self, rows: IntArray, count: int) -> IntArray:
        """Those of the rows with the smallest sums so far."""
        if len(rows) <= count:
            return rows
        lowest: IntArray = rows[np.argpartition(self._least[rows], count)[:count]]
        return lowest

    def _points(self, rows: IntArray) -> Tensor:
        """(B, D) standardised rows of the pool, float64."""
        return self._around.standardised(self._pool.take(rows).dense().features)

    def _bound(self) -> None:
        """Look at all rows in single precision, less what that may be wrong by."""
        around = self._around
        labels, lengths = self._labels.float(), self._lengths.float()
        for start, features in feature_batches(self._pool, _ROWS):
            points = around.standardised(features, torch.float32)
            logs = self._log_sums(points, labels, lengths) + np.log(around.each)
            squares = _lengths(points) + lengths.max()
            wrong = _ERROR * (squares / around.delta + logs.abs() + 1)
            self._least[start : start + len(points)] = (logs - wrong).numpy()
        self._counted[:] = -1

    def _count(self, rows: IntArray) -> None:
        """Bring the sums of some rows up to date, in double precision."""
        if not len(rows):
            return
        points = self._points(rows)
        counted, sums = self._counted[rows], self._least[rows]
        fresh = np.flatnonzero(counted < 0)
        if len(fresh):
            some = points[torch.from_numpy(fresh)]
            exact = self._log_sums(some, self._labels, self._lengths)
            sums[fresh] = exact.numpy() + np.log(self._around.each)
        counted = np.maximum(counted, 0)
        for first in range(int(counted.min()), self._added, _CHUNK):
            picks = self._picks[first : min(first + _CHUNK, self._added)]
            terms = _squared(points, picks, _lengths(picks)).div_(-self._around.delta)
            known = torch.from_numpy(counted[:, None] > first + np.arange(len(picks)))
            terms.masked_fill_(known, -torch.inf)
            sums = np.logaddexp(sums, torch.logsumexp(terms, dim=1).numpy())
        self._least[rows], self._counted[rows] = sums, self._added

    def _log_sums(self, points: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """(B, D), (A, D) and their (A,) squared lengths to (B,) ln sum exp(-|x - a|^2 / delta)."""
        terms = _squared(points, labels, lengths).div_(-self._around.delta)
        return torch.logsumexp(terms, dim=1)


def _moments(examples: Examples) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(D,) mean and (D,) scale; 0 and 1 where there are no rows to say."""
    width = examples.features.shape[1]
    rows = batch_rows(3 * width)
    mean = torch.zeros(width, dtype=torch.float64)
    for start, batch in feature_batches(examples, rows):
        mean += batch.sum(dim=0, dtype=torch.float64)
        if not bool(torch.isfinite(mean).all()):
            refuse_infinite(examples.ids[start : start + len(batch)], batch)
    mean /= max(len(examples), 1)
    squares = torch.zeros_like(mean)
    for _, batch in feature_batches(examples, rows):
        squares += ((batch.double() - mean) ** 2).sum(dim=0)
    scale = (squares / max(len(examples), 1)).sqrt()
    # As in the re-calibration layer: what hardly varies is not blown up.
    floor = 0.05 * float((scale**2).mean().sqrt()) if width else 0.0
    scale = scale.clamp_min(floor) if floor > 0 else torch.ones_like(scale)
    return mean.float().numpy(), scale.float().numpy()


def _squared(points: Tensor, to: Tensor, lengths: Tensor) -> Tensor:
    """(B, D), (C, D) and their (C,) squared lengths to (B, C) squared distances."""
    squares = _lengths(points)[:, None] + lengths
    return squares.addmm_(points, to.T, alpha=-2).clamp_min_(0)


def _lengths(points: Tensor) -> Tensor:
    """(B, D) to (B,) squared lengths, without a second array of their size."""
    lengths: Tensor = torch.linalg.vector_norm(points, dim=1)
    return lengths.square_()
