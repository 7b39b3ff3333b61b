"""The re-calibration layer of the default scorer: one linear layer, mixed from two.

One half says where the classes lie (``ClassMeans``): right from the first labels on, and of a class
whole. The other is drawn by their borders (logistic regression, focal): it needs more labels, and
learns from what the queue served in vain. Where labels are few beside the features nobody knows how
a class spreads, and borders are all there is. Where the pool hardly holds the tail the first places
decide, and these are won at the borders; where it holds much of it, finding all of it counts.
Source: Ng and Jordan 2002, "On discriminative vs. generative classifiers", for the former.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.class_means import ClassMeans, remainder
from models.class_shares import class_shares
from models.config import RecalibrationConfig
from models.recalibration import RecalibrationLayer, solve
from models.types import ClassSpace, Examples, FloatArray, IntArray
from models.whitening import Whitened

_WIDE = 400  # coordinates that the borders are drawn in, beside those of the class means
_VARIES = 1e-6  # of the largest variance: less is rounding
_BORDERS, _BORDERS_WHERE_MANY = 0.75, 0.25  # share of the second half, with labels enough
_HALF_AT = 10  # labels of a tail class at which it has half of that
_RARE, _MANY = 0.015, 0.05  # shares of the tail in the pool, as estimated here
_SURE = 0.4  # what logits times this say of the pool's shares was most telling (measured)
_NEVER = -1e4  # logit of a class of which nothing is known
_WIDEST = 40.0  # standard deviation of logits: more says nothing and drowns in rounding

Linear = tuple[NDArray[np.float64], NDArray[np.float64]]  # (D, K) weight, (K,) bias
_Expected = Callable[[NDArray[np.float64], IntArray], NDArray[np.float64]]


@dataclass(frozen=True)
class Mixture:
    """How the halves were put together.

    Attributes:
        share: of the second half, in [0, 1].
        damp: by which the first half's logits are multiplied, in (0, 1].
        width: standard deviation of the logits of labeled classes over the pool.
        stretch: by which its logits are as wide as those of the first.
        plenty: in [0, 1]: 0 where the tail is rare in the pool, 1 where there is much of it.
        expected: (D,) where a tail class is expected, in coordinates.
    """

    share: float
    damp: float
    width: float
    stretch: float
    plenty: float
    expected: NDArray[np.float64]


@dataclass(frozen=True)
class MixedLayer:
    """A fitted layer, and what it takes to fit it again on other labels alike.

    Attributes:
        layer: (D, K).
        means: where the classes lie.
        space: whitened coordinates.
        mixture: how the halves were put together.
        shares: (K,) of the classes in the pool, as estimated.
    """

    layer: RecalibrationLayer
    means: ClassMeans
    space: Whitened
    mixture: Mixture
    shares: NDArray[np.float64]
    classes: ClassSpace
    config: RecalibrationConfig
    seed: int

    @classmethod
    def fit(
        cls,
        features: FloatArray,
        targets: IntArray,
        pool: Examples,
        *,
        space: Whitened,
        classes: ClassSpace,
        config: RecalibrationConfig,
        seed: int,
    ) -> MixedLayer:
        """Fit both halves and mix them by what the pool holds.

        Args:
            features: (N, D) of the labels.
            targets: (N,) in [0, K), of two classes at least.
            pool: some of the unlabeled examples, at least one.
            space: fitted on all of them.
            classes: names and tail.
            config: how the second half is fitted.
            seed: of its forms that draw.
        """

        def expected(known: NDArray[np.float64], counts: IntArray) -> NDArray[np.float64]:
            place = remainder(known, counts, pool, space)
            return place * space.known if several else place

        several = bool(np.isin(targets, classes.tail).any())
        places = space.at(features)
        means, first = _first(places, targets, space, classes, expected)
        counts = means.counts
        # A few labels may make classes look like points: logits of thousands.
        width = _spread(first, pool, counts)
        damp = min(1.0, _WIDEST / max(width, 1e-9))
        first = _damped(first, damp)
        tail_labels = counts[[k for k in classes.tail if counts[k]]]
        smooth = (counts + 0.5) / (counts + 0.5).sum()
        second, stretch, ready = None, 1.0, 0.0
        if len(tail_labels):
            second = _second(features, places, targets, counts, space, config, seed)
            stretch = damp * width / max(_spread(second, pool, counts), 1e-9)
            middle = float(np.median(tail_labels))
            ready = middle / (middle + _HALF_AT)
        draft = _mix(first, second, 0.5 * ready, stretch, counts)
        shares = class_shares(_SURE * draft.logits_of(pool), smooth)
        held = float(shares[list(classes.tail)].sum())
        plenty = min(max((held - _RARE) / (_MANY - _RARE), 0.0), 1.0) * space.known
        share = ready * (_BORDERS + plenty * (_BORDERS_WHERE_MANY - _BORDERS))
        if second is not None:
            share = 1 - (1 - share) * space.known
        return cls(
            layer=_mix(first, second, share, stretch, counts),
            means=means,
            space=space,
            mixture=Mixture(share, damp, damp * width, stretch, plenty, means.expected),
            shares=np.asarray(shares, dtype=np.float64),
            classes=classes,
            config=config,
            seed=seed,
        )

    def again(self, features: FloatArray, targets: IntArray) -> RecalibrationLayer:
        """The layer that other labels would have given, everything else being equal.

        Args:
            features: (N, D).
            targets: (N,) in [0, K), of two classes at least.
        """
        mixture, space = self.mixture, self.space

        def expected(known: NDArray[np.float64], counts: IntArray) -> NDArray[np.float64]:
            return mixture.expected

        places = space.at(features)
        means, first = _first(places, targets, space, self.classes, expected)
        first = _damped(first, mixture.damp)
        second = None
        if mixture.share:
            second = _second(features, places, targets, means.counts, space, self.config, self.seed)
        return _mix(first, second, mixture.share, mixture.stretch, means.counts)


def _first(
    places: FloatArray,
    targets: IntArray,
    space: Whitened,
    classes: ClassSpace,
    expected: _Expected,
) -> tuple[ClassMeans, Linear]:
    """Where the classes lie, as a layer on features."""
    means = ClassMeans.fit(
        places,
        targets,
        space,
        num_classes=classes.size,
        tail=classes.tail,
        expected=expected,
    )
    unknown = [k for k in classes.tail if not means.counts[k]]
    if not means.expected.any():
        unknown = []
    known = np.union1d(np.flatnonzero(means.counts), np.asarray(unknown, dtype=np.int64))
    weight = np.zeros((space.axes.shape[1], classes.size))
    bias = np.full(classes.size, _NEVER)
    weight[:, known], bias[known] = means.layer(known)
    # Tail classes without labels lie at one place; together they count as one class.
    bias[unknown] -= np.log(max(len(unknown), 1))
    return means, space.on_features(*_centred(weight, bias, known))


def _second(
    features: FloatArray,
    places: FloatArray,
    targets: IntArray,
    counts: IntArray,
    space: Whitened,
    config: RecalibrationConfig,
    seed: int,
) -> Linear:
    """Borders between labeled classes, as a layer on features."""
    known = np.flatnonzero(counts)
    if config.form != "regularised":
        layer = RecalibrationLayer.fit(
            features, targets, num_classes=len(counts), config=config, seed=seed
        )
        bias = layer.bias.astype(np.float64)
        if config.form == "released":
            # Plain cross-entropy learned the labels' own shares, not equal ones.
            bias = bias - np.log(np.maximum(counts, 1))
        return _centred(layer.weight.astype(np.float64), bias, known)
    # Where the pool does not vary, directions are arbitrary: one could not say the same twice.
    varies = int(np.count_nonzero(space.variance > _VARIES * space.variance[0]))
    wide = min(_WIDE, max(varies, 1))
    beyond = places[:, wide:]
    if beyond.shape[1] > len(known):
        sums = np.stack([beyond[targets == k].mean(axis=0) for k in known], axis=1)
        onto = torch.linalg.qr(torch.from_numpy(sums)).Q.numpy()
        narrow = np.concatenate([places[:, :wide], beyond @ onto], axis=1)
    else:
        onto, narrow = np.eye(beyond.shape[1], dtype=np.float32), places
    solved, bias = solve(torch.from_numpy(narrow), targets, counts, config)
    weight = np.concatenate([solved[:wide], onto @ solved[wide:]])
    return space.on_features(*_centred(weight, bias, known))


def _centred(weight: FloatArray, bias: FloatArray, known: IntArray) -> Linear:
    """The same log-odds between known classes, with logits that sum to 0 over them."""
    weights, biases = weight.astype(np.float64), bias.astype(np.float64)
    weights[:, known] -= weights[:, known].mean(axis=1, keepdims=True)
    biases[known] -= biases[known].mean()
    return weights, biases


def _damped(half: Linear, by: float) -> Linear:
    """Smaller logits; what is never likely stays so."""
    weight, bias = half
    return by * weight, np.where(bias == _NEVER, bias, by * bias)


def _mix(
    first: Linear, second: Linear | None, share: float, stretch: float, counts: IntArray
) -> RecalibrationLayer:
    """Labeled classes from both halves; the others from the first."""
    weight, bias = first[0].copy(), first[1].copy()
    if second is not None and share:
        known = np.flatnonzero(counts)
        weight[:, known] += share * (stretch * second[0][:, known] - weight[:, known])
        bias[known] += share * (stretch * second[1][known] - bias[known])
    return RecalibrationLayer(weight, bias)


def _spread(half: Linear, pool: Examples, counts: IntArray) -> float:
    """How wide the logits of labeled classes are over the pool: their root mean square."""
    known = np.flatnonzero(counts)
    logits = RecalibrationLayer(half[0][:, known], half[1][known]).logits_of(pool)
    return float(logits.std(dtype=np.float64))
