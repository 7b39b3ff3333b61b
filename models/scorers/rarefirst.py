"""The default scorer: a re-calibration layer mixed from two, a one-class error, turns by class.

Where labels of a tail class exist, the layer's log-odds decide. Where the pool holds much of the
tail, and for tail classes without a label, the autoencoder's error adds to them: there it finds
what the layer has not been shown. Every tail class has its share of the queue, those without labels
one together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.calibration import priors_of
from models.class_means import TEMPER
from models.config import MinerConfig, RecalibrationConfig
from models.mixed_layer import MixedLayer
from models.prototypes import PrototypeAutoencoder
from models.recalibration import RecalibrationLayer
from models.scorers.base import State, check_labeled, check_shapes, part
from models.scorers.best import Contenders
from models.scorers.duplicates import spread, whole_parts
from models.scorers.needs import Needs, check_needs
from models.scorers.turns import take_turns
from models.streaming import Stacked, batch_rows, feature_batches
from models.types import (
    ClassSpace,
    Examples,
    FloatArray,
    IntArray,
    LabeledExamples,
    RankedQueue,
    numbered,
)
from models.whitening import Whitened

_POOL_ROWS = 24_000  # of the pool that are looked at beyond its mean and covariance
_MOST_ENTRIES = 4_000_000  # of their logits
_NOVELTY = 0.5  # standard deviations of a score that one of the one-class error is worth
_MOST_NOVEL = 3.0  # standard deviations of the one-class error that count
_GUARANTEED = 0.9  # of the queue that is served by turns where the pool holds much of the tail
_GUARANTEED_WHERE_RARE = 0.2
_TRUSTED_WIDTH = 12.0  # of logits; classes that few labels set wider apart are no surer than this
_SINGLE_PRECISION = 1e-2  # by which a score in single precision may be wrong, with room to spare
_UNDERFLOW = -60.0  # logarithm of a sum of powers of which single precision lost a part
_FARTHEST = 500.0  # log-odds beyond this are all alike
_LEAST_PRIOR = 1e-12  # of a class that nobody expects
_FIGURES = ("pool_tail_share", "border_share", "autoencoder_weight")


@dataclass(frozen=True)
class _Fitted:
    """All that ``rank`` and the judgement need.

    Attributes:
        layer: (D, K).
        autoencoder: of the common classes.
        seen: (K,) labels of each class.
        novelty: (T' + 1,) what a standard deviation of the error adds to each score.
        error: (2,) mean and standard deviation of the error over the pool.
        turns: share of the queue that is served by turns.
        usual: squared distance of two examples of a class; 0 where that is not known.
        temper: logits times this are about as sure as they are right.
    """

    layer: RecalibrationLayer
    autoencoder: PrototypeAutoencoder
    seen: NDArray[np.float64]
    novelty: NDArray[np.float64]
    error: NDArray[np.float64]
    turns: float
    usual: float
    temper: float


class RareFirst:
    """Rarest first, tail classes in turn.

    Needs a tail class and labels of two classes; which tail classes have labels is dealt with.
    """

    needs: ClassVar[Needs] = Needs(classes=2, tail=True)

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self.classes = ClassSpace(())
        self._fitted: _Fitted | None = None
        self._mixed: MixedLayer | None = None
        self._sums: Tensor = torch.empty(0)
        self._shares: Tensor = torch.empty(0)
        self._figures: dict[str, float] = {}

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Fit layer and autoencoder on labels and pool.

        Raises:
            NoTailClass: if no class is in the tail, or all are.
            NotEnoughLabels: if fewer than two classes have labels.
            ShapeError: if the input is not what ``Examples`` says.
        """
        check_labeled(labeled, classes)
        check_shapes(pool)
        check_needs(self.needs, labeled, classes)
        labeled = LabeledExamples(labeled.examples.dense(), labeled.targets)
        features, targets = labeled.examples.features, labeled.targets
        some = _sample(pool, classes.size, seed) if len(pool) else numbered(features)
        space = Whitened.fit(features, targets, pool, num_classes=classes.size)
        mixed = MixedLayer.fit(
            features,
            targets,
            some,
            space=space,
            classes=classes,
            config=RecalibrationConfig(form=self.config.recalibration),
            seed=seed,
        )
        self._mixed, self.classes = mixed, classes
        counts, plenty = mixed.means.counts, mixed.mixture.plenty
        common = np.setdiff1d(np.flatnonzero(counts), classes.tail)
        autoencoder = PrototypeAutoencoder.fit(
            mixed.means, space, columns=common, shares=_normed(mixed.shares[common])
        )
        self._fitted = _Fitted(
            layer=mixed.layer,
            autoencoder=autoencoder,
            seen=counts.astype(np.float64),
            novelty=np.zeros(0),
            error=np.asarray([0.0, 1.0]),
            turns=max(_GUARANTEED_WHERE_RARE, _GUARANTEED * plenty),
            usual=2 * space.spread,
            temper=TEMPER * min(1.0, _TRUSTED_WIDTH / max(mixed.mixture.width, 1e-9)),
        )
        self._set_weights()
        spreads, error = self._spreads(some)
        unlabeled = [float(not counts[columns].any()) for columns in self._served()]
        weights = _NOVELTY * np.maximum(plenty, [*unlabeled, float(all(unlabeled))])
        # Where no place is known for what has no label, the error is all that orders it.
        spreads = np.where(spreads > 0, spreads, 1.0)
        self._fitted = replace(self._fitted, novelty=weights * spreads, error=error)
        self._figures = {
            "pool_tail_share": float(mixed.shares[list(classes.tail)].sum()),
            "border_share": mixed.mixture.share,
            "autoencoder_weight": float(weights[-1]),
        }
        return self

    @property
    def unlearnable(self) -> tuple[int, ...]:
        """Tail classes without a label."""
        return tuple(k for k in self.classes.tail if self._known().seen[k] == 0)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit."""
        seen = self._known().seen
        return {
            "labels": float(seen.sum()),
            "tail_labels": float(seen[list(self.classes.tail)].sum()),
            **self._figures,
        }

    @property
    def layer(self) -> RecalibrationLayer:
        """The layer from features to the logits that everything here is computed from."""
        return self._known().layer

    @property
    def learnable(self) -> list[int]:
        """Tail classes with a label."""
        return [k for k in self.classes.tail if self._known().seen[k] > 0]

    @property
    def served_names(self) -> tuple[str, ...]:
        """Why an example is served, for each that is served in turn."""
        seen = self._known().seen
        return tuple(
            f"tail {self.classes.names[columns[0]]}" if seen[columns[0]] else "one-class error"
            for columns in self._served()
        )

    @property
    def turn_share(self) -> float:
        """Of the places that each of them is served."""
        return self._known().turns / len(self._served())

    def log_odds(self, examples: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(N,) rarity and (N, T' + 1) scores of a few examples; the last column is of all tail.

        What ``rank`` orders by, where something else than the order of these examples is wanted.
        """
        fitted = self._known()
        rarity = np.empty(len(examples))
        scores = np.empty((len(examples), len(self._served()) + 1))
        for start, (logits,) in Stacked([self.layer]).batches(examples):
            here = slice(start, start + logits.shape[1])
            rare, odds = self.weigh_up(logits)
            rarity[here], scores[here] = rare.numpy(), odds.numpy().T
            if fitted.novelty.any():
                scores[here] += self._extra(examples.slice(start, here.stop), logits)
        return rarity, scores

    def again(self, features: FloatArray, targets: IntArray) -> RecalibrationLayer:
        """The layer that other labels would have given; see ``MixedLayer.again``.

        Raises: RuntimeError: if this was not fitted but restored: coordinates are not kept.
        """
        if self._mixed is None:
            raise RuntimeError("a restored scorer cannot be fitted again")
        return self._mixed.again(features, targets)

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Tail classes in turn, each by its own order; see ``take_turns``."""
        check_shapes(pool)
        size = min(max(budget, 0), len(pool))
        if not size:
            return RankedQueue(ids=pool.ids[:0])
        contenders = self.contenders(size, len(pool))
        for start, (logits,) in Stacked([self.layer]).batches(pool):
            rows = np.arange(start, start + logits.shape[1])
            self.look(contenders, pool, rows, logits, self.weigh_up(logits)[1])
        return self.order(pool.take(contenders.rows()), size)

    def contenders(self, size: int, count: int) -> Contenders:
        """To collect what may be among the first ``size`` of ``count``; see ``look``."""
        wanted = whole_parts(size, count)
        return Contenders(len(self._served()) + 1, wanted, _SINGLE_PRECISION)

    def look(
        self, contenders: Contenders, pool: Examples, rows: IntArray, logits: Tensor, odds: Tensor
    ) -> None:
        """Add those of (B,) rows that may still come to the queue's head.

        The one-class error moves a score by three of its standard deviations at most. Where that
        would not bring a row among the best so far, it is not computed: the order is the same.

        Args:
            contenders: what ``contenders`` gave.
            pool: whose rows these are.
            rows: (B,) of the pool.
            logits: (K, B) of these rows.
            odds: (T' + 1, B) what ``weigh_up`` made of them.
        """
        novelty = self._known().novelty
        scores = odds.numpy().T
        if novelty.any():
            reach = (_MOST_NOVEL * novelty).astype(np.float32)
            at = np.flatnonzero((scores + reach >= contenders.least).any(axis=1))
            if not len(at):
                return
            rows, scores = rows[at], scores[at]
            kept = logits[:, torch.from_numpy(at)]
            scores += self._extra(pool.take(rows), kept).astype(np.float32)
        contenders.add(rows, scores)

    def _extra(self, examples: Examples, logits: Tensor) -> NDArray[np.float64]:
        """(B, T' + 1) what the one-class error adds to each score of (B,) examples."""
        fitted = self._known()
        mean, scale = fitted.error
        bounded = np.clip(
            (self._errors(examples, logits) - mean) / scale, -_MOST_NOVEL, _MOST_NOVEL
        )
        extra: NDArray[np.float64] = bounded[:, None] * fitted.novelty
        return extra

    def _errors(self, examples: Examples, logits: Tensor) -> NDArray[np.float64]:
        """(B,) the autoencoder's error, in the precision of the (K, B) logits."""
        autoencoder = self._known().autoencoder
        errors: NDArray[np.float64] = np.empty(len(examples))
        for start, features in feature_batches(examples, batch_rows(examples.features.shape[1])):
            here = slice(start, start + len(features))
            errors[here] = autoencoder.errors(features, logits[:, here]).numpy()
        return errors

    def weigh_up(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(K, B) logits to (B,) rarity, and (T' + 1, B) log-odds of those that are served in turn.

        The rarity is the tail's share at the prevalence that the priors say, from logits that are
        as sure as they are right. The log-odds are of a class against all others, classes being
        alike; the last of the whole tail at the priors.
        """
        top = logits.amax(dim=0)
        shifted = logits - top
        temper = self._known().temper
        shares = (temper * shifted).exp_()
        powers = shifted.exp_()
        # 1 - p would lose what tells the best apart, where p is near 1: the others are summed.
        tail, rest = self._shares.to(logits.dtype) @ shares
        rarity = tail / (tail + rest)
        sums = (self._sums.to(logits.dtype) @ powers).log_()
        served = len(self._served())
        odds = torch.empty((served + 1, logits.shape[1]), dtype=logits.dtype)
        odds[:served] = self._own(logits) - top - sums[2:]
        odds[served] = sums[0] - sums[1]
        if logits.dtype == torch.float32:
            # Powers that single precision has as 0 have logarithms all the same.
            far = torch.nonzero((sums < _UNDERFLOW).any(dim=0)).flatten()
            if len(far):
                rare, exact = self.weigh_up(logits[:, far].double())
                rarity[far], odds[:, far] = rare.float(), exact.float()
        return rarity, odds.clamp_(-_FARTHEST, _FARTHEST)

    def _own(self, logits: Tensor) -> Tensor:
        """(T', B) logits of those that are served in turn; of classes together, their sum's."""
        return torch.stack(
            [
                torch.logsumexp(logits[columns], dim=0) if len(columns) > 1 else logits[columns[0]]
                for columns in self._served()
            ]
        )

    def _served(self) -> list[list[int]]:
        """Columns of the logits that are served in turn: labeled tail classes, and the others.

        The others lie, as far as is known, at one place, so they are served together.
        """
        others = list(self.unlearnable)
        return [*([k] for k in self.learnable), *([others] if others else [])]

    def _set_weights(self) -> None:
        """What powers of the logits are summed with.

        ``_sums``, (2 + T', K): tail and others by their priors; all but each that is served in
        turn. ``_shares``, (2, K): tail and others, for tempered powers. Tail classes without
        labels share one density in the layer; by their priors each has all of it.
        """
        seen, size = self._known().seen, self.classes.size
        priors = np.maximum(priors_of(self.classes, seen), _LEAST_PRIOR)
        columns = np.arange(size)
        is_tail = np.isin(columns, self.classes.tail)
        alike = np.where(np.isin(columns, self.unlearnable), max(len(self.unlearnable), 1), 1)
        both = [np.where(is_tail, priors, 0), np.where(is_tail, 0, priors)]
        others = [np.where(np.isin(columns, served), 0.0, 1.0) for served in self._served()]
        self._shares = torch.from_numpy(np.stack(both) * alike ** self._known().temper)
        self._sums = torch.from_numpy(np.stack([both[0] * alike, both[1], *others]))

    def _spreads(self, some: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Over a sample: (T' + 1,) standard deviations of scores; mean and that of the error."""
        scores, errors = [], []
        for start, (logits,) in Stacked([self.layer]).batches(some):
            scores.append(self.weigh_up(logits)[1].numpy().T.copy())
            errors.append(self._errors(some.slice(start, start + logits.shape[1]), logits))
        error = np.concatenate(errors)
        spreads: NDArray[np.float64] = np.concatenate(scores).std(axis=0, dtype=np.float64)
        return spreads, np.asarray([error.mean(), max(error.std(), 1e-6)])

    def order(self, contenders: Examples, size: int) -> RankedQueue:
        """The queue's head, from a few examples that hold it.

        In double precision, and scores that differ by less than 1e-9 are ties: the order does not
        depend on the batches, threads or neighbours that an example was computed with.
        """
        fitted, served = self._known(), self._served()
        weights = torch.from_numpy(fitted.layer.weight).double()
        bias = torch.from_numpy(fitted.layer.bias).double()
        scores: NDArray[np.float64] = np.empty((len(contenders), len(served) + 1))
        for start, features in feature_batches(contenders, batch_rows(len(weights))):
            here = slice(start, start + len(features))
            logits = (features.double() @ weights + bias).T.contiguous()
            scores[here] = self.weigh_up(logits)[1].numpy().T
            if fitted.novelty.any():
                scores[here] += self._extra(contenders.slice(start, here.stop), logits)
        rounded = scores.round(9)
        rows, turns = take_turns(
            rounded[:, :-1],
            rounded[:, -1],
            contenders.ids,
            budget=whole_parts(size, len(contenders)),
            share=self.turn_share,
            give_up_share=self.config.give_up_share,
        )
        at = spread(contenders.take(rows), usual=fitted.usual)[:size]
        rows, turns = rows[at], turns[at]
        names = self.served_names
        return RankedQueue(ids=contenders.ids[rows], reasons=tuple(names[turn] for turn in turns))

    def reconstruction_error(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) the autoencoder's error, >= 0."""
        errors: NDArray[np.float64] = np.empty(len(examples))
        for start, (logits,) in Stacked([self.layer]).batches(examples):
            stop = start + logits.shape[1]
            errors[start:stop] = self._errors(examples.slice(start, stop), logits)
        return errors

    def above_usual(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N,) by how many standard deviations errors lie above the mean over the pool."""
        mean, scale = self._known().error
        above: NDArray[np.float64] = (errors - mean) / scale
        return above

    def weigh(self, weight: float) -> None:
        """Let one standard deviation of the one-class error add so much to each log-odds."""
        fitted = self._known()
        self._fitted = replace(fitted, novelty=np.full(len(self._served()) + 1, weight))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Layer, autoencoder and a few numbers."""
        if self._fitted is None:
            return {}
        fitted = self._fitted
        return {
            **{f"layer.{name}": value for name, value in fitted.layer.state().items()},
            **{f"autoencoder.{name}": value for name, value in fitted.autoencoder.state().items()},
            "seen": fitted.seen,
            "novelty": fitted.novelty,
            "error": fitted.error,
            "queue": np.asarray([fitted.turns, fitted.usual, fitted.temper]),
            "figures": np.asarray([self._figures.get(name, np.nan) for name in _FIGURES]),
        }

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take them back."""
        turns, usual, temper = state["queue"].astype(np.float64).tolist()
        self._fitted = _Fitted(
            layer=RecalibrationLayer.from_state(part(state, "layer.")),
            autoencoder=PrototypeAutoencoder.from_state(part(state, "autoencoder.")),
            seen=state["seen"].astype(np.float64),
            novelty=state["novelty"].astype(np.float64),
            error=state["error"].astype(np.float64),
            turns=turns,
            usual=usual,
            temper=temper,
        )
        self._figures = dict(
            zip(_FIGURES, state["figures"].astype(np.float64).tolist(), strict=True)
        )
        self._mixed, self.classes = None, classes
        self._set_weights()
        return self

    def _known(self) -> _Fitted:
        if self._fitted is None:
            raise RuntimeError("fit was not called")
        return self._fitted


def _sample(pool: Examples, classes: int, seed: int) -> Examples:
    """Some of a large pool; by id, whatever order the pool comes in."""
    count = min(len(pool), _POOL_ROWS, max(_MOST_ENTRIES // classes, 1000))
    if count == len(pool):
        return pool
    places = np.random.default_rng(seed).choice(len(pool), count, replace=False)
    return pool.take(np.argsort(pool.ids, kind="stable")[np.sort(places)])


def _normed(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    normed: NDArray[np.float64] = shares / max(float(shares.sum()), 1e-30)
    return normed
