"""FLQMI: resemble the rare labels, and cover all of them.

Facility-location mutual information of what is picked and the labels of the tail, maximised
greedily; two examples are alike where the last layer's gradients of their losses point alike.
Source: Kothawade et al. 2021 (SIMILAR), arXiv:2107.00717; METHODS section 20.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.config import MinerConfig
from models.errors import ShapeError
from models.scorers.base import OriginalHead, State, check_labeled, check_shapes
from models.scorers.needs import Needs, check_needs
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples, RankedQueue

_MOST = 2000  # rare labels that are kept
_ENTRIES = 50_000_000  # of likenesses, 200 MB; a larger pool is compared to fewer rare labels
_ROWS = 1024


@dataclass(frozen=True)
class _Rare:
    """Rare labels in random order: (Q, D) features, (Q, K) directions, (Q,) targets."""

    features: FloatArray
    directions: NDArray[np.float32]
    targets: IntArray


class Flqmi:
    """Greedy order by likeness to the labels of the tail.

    Of more than 2,000 such labels a random part is kept; fewer still count where likenesses of the
    pool to them would pass 50 million. Needs a tail class with a label, and the original head or
    labels of two classes to fit a plain one.
    """

    needs: ClassVar[Needs] = Needs(tail=True, tail_labels=True, original_head=True)

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self._head: OriginalHead | None = None
        self._classes = ClassSpace(())
        self._rare = _Rare(
            np.empty((0, 0), dtype=np.float32),
            np.empty((0, 0), dtype=np.float32),
            np.empty(0, dtype=np.int64),
        )

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Take or fit the original head, and keep the labels of the tail."""
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        self._head = OriginalHead.fit(labeled, num_classes=classes.size)
        self._classes = classes
        rows = np.flatnonzero(np.isin(labeled.targets, classes.tail))
        rows = rows[np.argsort(labeled.examples.ids[rows])]
        rows = np.random.default_rng(seed).permutation(rows)[:_MOST]
        rare, targets = labeled.examples.take(rows), labeled.targets[rows].astype(np.int64)
        directions: NDArray[np.float32] = np.empty((len(rows), classes.size), dtype=np.float32)
        for start, logs in self._head.log_batches(rare):
            here = slice(start, start + logs.shape[1])
            directions[here] = gradient_directions(logs.T.numpy(), targets[here])
        self._rare = _Rare(rare.dense().features, directions, targets)
        return self

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """By gain, each after what was picked before it; ties by id. No randomness."""
        likeness = self._likeness(pool)
        rows = greedy_order(likeness, pool.ids, budget=budget, eta=self.config.resemblance)
        nearest = self._rare.targets[likeness[rows].argmax(axis=1)] if len(rows) else rows
        reasons = tuple(f"like {self._classes.names[k]}" for k in nearest.tolist())
        return RankedQueue(ids=pool.ids[rows], reasons=reasons)

    def _likeness(self, pool: Examples) -> NDArray[np.float32]:
        """(N, Q) half of 1 + the cosine of two gradients."""
        if self._head is None:
            raise RuntimeError("rank was called before fit")
        check_shapes(pool)
        rare = self._rare
        kept = min(len(rare.targets), max(1, _ENTRIES // max(len(pool), 1)))
        width = rare.features.shape[1]
        if pool.features.shape[1] != width:
            raise ShapeError(
                f"found features {pool.features.shape}; the scorer was fitted on (N, {width}) by "
                "another frozen model; fit again"
            )
        likeness: NDArray[np.float32] = np.empty((len(pool), kept), dtype=np.float32)
        theirs = _with_bias(rare.features[:kept])
        directions = rare.directions[:kept].astype(np.float64)
        for begin, logs in self._head.log_batches(pool):
            predicted = logs.argmax(dim=0).numpy()
            ours = gradient_directions(logs.T.numpy(), predicted)
            for start in range(0, len(ours), _ROWS):
                some = ours[start : start + _ROWS]
                here = slice(begin + start, begin + start + len(some))
                features = _with_bias(pool.slice(here.start, here.stop).dense().features)
                cosines = (some @ directions.T) * (features @ theirs.T)
                # Rounded, so that equal examples tie whatever batch they came in.
                likeness[here] = ((1 + cosines) / 2).round(9)
        return likeness

    def state(self) -> dict[str, NDArray[np.generic]]:
        """The plain head, if one was fitted, and the rare labels."""
        if self._head is None:
            return {}
        return {
            **self._head.state(),
            "rare.features": self._rare.features,
            "rare.directions": self._rare.directions,
            "rare.targets": self._rare.targets,
        }

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take both back."""
        self._head = OriginalHead.from_state(state, num_classes=classes.size)
        self._classes = classes
        features = state["rare.features"]
        half = features.dtype == np.float16
        self._rare = _Rare(
            features.astype(np.float16 if half else np.float32, copy=False),
            state["rare.directions"].astype(np.float32),
            state["rare.targets"].astype(np.int64),
        )
        return self


def gradient_directions(logs: NDArray[np.float64], targets: IntArray) -> NDArray[np.float64]:
    """(N, K) unit vectors along p - onehot(target), the gradient of cross-entropy by the logits.

    From the logarithms, so that a probability of 1 but for 1e-30 still has its direction.

    Args:
        logs: (N, K) logarithms of the softmax, K > 1.
        targets: (N,) labels, or what is predicted in their place.
    """
    others = logs.copy()
    np.put_along_axis(others, targets[:, None], -np.inf, axis=1)
    shares = np.exp(others - others.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    np.put_along_axis(shares, targets[:, None], -1.0, axis=1)
    directions: NDArray[np.float64] = shares / np.linalg.norm(shares, axis=1, keepdims=True)
    return directions


def greedy_order(
    likeness: NDArray[np.float32], ids: IntArray, *, budget: int, eta: float
) -> IntArray:
    """Rows in the order in which they add most to the mutual information.

    A gain only falls as others are picked, so an old one bounds it from above: one is brought up
    to date only where its bound could be the highest.

    Args:
        likeness: (N, Q) in [0, 1].
        ids: (N,) unique; ties go by them.
        budget: rows wanted; at most N come back.
        eta: weight of the resemblance to any one label; the coverage of all has 1.
    """
    size = min(max(budget, 0), len(likeness))
    alone = eta * likeness.max(axis=1, initial=0).astype(np.float64)
    covered: NDArray[np.float32] = np.zeros(likeness.shape[1], dtype=np.float32)
    names = ids.tolist()
    picked: list[int] = []
    is_open = np.ones(len(likeness), dtype=bool)
    heap: list[tuple[float, int, int]] = []
    for turn in range(size):
        # After each power of two all bounds are renewed together: at first most gains collapse.
        if not turn & (turn - 1):
            rows = np.flatnonzero(is_open)
            gains = _gains(likeness, rows, covered, alone)
            heap = [
                (-gain, names[row], row)
                for gain, row in zip(gains.tolist(), rows.tolist(), strict=True)
            ]
            heapify(heap)
        while True:
            bound, name, row = heap[0]
            gain = float(_gains(likeness, np.asarray([row]), covered, alone)[0])
            if gain >= -bound:
                break
            heapreplace(heap, (-gain, name, row))
        heappop(heap)
        picked.append(row)
        is_open[row] = False
        np.maximum(covered, likeness[row], out=covered)
    return np.asarray(picked, dtype=np.int64)


def _gains(
    likeness: NDArray[np.float32],
    rows: IntArray,
    covered: NDArray[np.float32],
    alone: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(R,) what each row would add, to nine digits."""
    gains = alone[rows].copy()
    for start in range(0, len(rows), _ROWS):
        some = likeness[rows[start : start + _ROWS]]
        gains[start : start + _ROWS] += np.maximum(some - covered, 0).sum(axis=1, dtype=np.float64)
    rounded: NDArray[np.float64] = gains.round(9)
    return rounded


def _with_bias(features: FloatArray) -> NDArray[np.float64]:
    """(N, D) features to (N, D + 1) unit vectors along (1, h)."""
    joined = np.concatenate([np.ones((len(features), 1)), features.astype(np.float64)], axis=1)
    unit: NDArray[np.float64] = joined / np.linalg.norm(joined, axis=1, keepdims=True)
    return unit
