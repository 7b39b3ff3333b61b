"""The default scorer: tail likelihood of a regularised layer, one-class error, turns by class.

Where labels of a tail class exist, its likelihood decides and the autoencoder, fitted on head
rows only, adds as much as cross-validation on the labels says it is worth. Where no tail class
has a label, the autoencoder and diversity are what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.autoencoder import LogitAutoencoder
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.recalibration import RecalibrationLayer
from models.scorers.base import State, check_labeled, check_shapes, part
from models.scorers.best import Contenders, best_rows
from models.scorers.blend import choose_weight, log_error
from models.scorers.diversity import farthest_first
from models.scorers.needs import Needs, check_needs
from models.scorers.turns import take_turns
from models.streaming import Stacked, batch_rows, feature_batches
from models.types import ClassSpace, Examples, IntArray, LabeledExamples, RankedQueue

_MOST_NOVEL = 3.0  # standard deviations by which the one-class error may move a score
_SINGLE_PRECISION = 1e-2  # by which a score in single precision may be wrong, with room to spare


@dataclass(frozen=True)
class _Fitted:
    """All that ``rank`` and the judgement need."""

    layer: RecalibrationLayer
    autoencoder: LogitAutoencoder
    seen: NDArray[np.float64]  # (K,) labels of each class
    weight: float
    error_mean: float
    error_scale: float


class RareFirst:
    """Rarest first, tail classes in turn.

    Needs a tail class and labels of two classes; which tail classes have labels is dealt with.
    """

    needs: ClassVar[Needs] = Needs(classes=2, tail=True)

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self.classes = ClassSpace(())
        self._fitted: _Fitted | None = None
        self._sums: Tensor = torch.empty(0)

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Fit layer and autoencoder, and weigh the two against each other.

        Raises:
            NoTailClass: if no class is in the tail, or all are.
            NotEnoughLabels: if fewer than two classes have labels.
            ShapeError: if the input is not what ``Examples`` says.
        """
        check_labeled(labeled, classes)
        check_needs(self.needs, labeled, classes)
        labeled = LabeledExamples(labeled.examples.dense(), labeled.targets)
        features, targets = labeled.examples.features, labeled.targets
        recalibration = RecalibrationConfig(form=self.config.recalibration)
        layer = RecalibrationLayer.fit(
            features, targets, num_classes=classes.size, config=recalibration, seed=seed
        )
        logits = layer.logits(features)
        is_tail = np.isin(targets, classes.tail)
        # Tail rows among its training rows would teach it what it must not know (METHODS 19.4).
        head_rows = logits[~is_tail] if not is_tail.all() else logits
        autoencoder = LogitAutoencoder.fit(
            head_rows,
            config=AutoencoderConfig(
                space=self.config.autoencoder_space,
                members=self.config.members,
                min_steps=self.config.autoencoder_steps,
            ),
            seed=seed,
        )
        errors = log_error(autoencoder, head_rows)
        self._fitted = _Fitted(
            layer=layer,
            autoencoder=autoencoder,
            seen=np.bincount(targets, minlength=classes.size).astype(np.float64),
            weight=choose_weight(
                labeled, classes, autoencoder, recalibration=recalibration, seed=seed
            ),
            error_mean=float(errors.mean()),
            error_scale=float(max(errors.std(), 1e-6)),
        )
        self.classes = classes
        self._sums = self._weights_of_sums()
        return self

    @property
    def unlearnable(self) -> tuple[int, ...]:
        """Tail classes without a label."""
        return tuple(k for k in self.classes.tail if self._known().seen[k] == 0)

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit."""
        fitted = self._known()
        return {
            "labels": float(fitted.seen.sum()),
            "tail_labels": float(fitted.seen[list(self.classes.tail)].sum()),
            "autoencoder_weight": fitted.weight,
        }

    @property
    def layer(self) -> RecalibrationLayer:
        """The layer from features to the logits that everything here is computed from."""
        return self._known().layer

    @property
    def learnable(self) -> list[int]:
        """Tail classes with a label."""
        return [k for k in self.classes.tail if self._known().seen[k] > 0]

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Tail classes in turn, each by its own order; see ``take_turns``."""
        check_shapes(pool)
        size = min(max(budget, 0), len(pool))
        if not size:
            return RankedQueue(ids=pool.ids[:0])
        if not self.learnable:
            return self._novel(pool, size)
        contenders = self.contenders(size)
        for start, (logits,) in Stacked([self.layer]).batches(pool):
            rows = np.arange(start, start + logits.shape[1])
            self.look(contenders, rows, logits, self.weigh_up(logits)[1])
        return self.order(pool.take(contenders.rows()), size)

    def contenders(self, size: int) -> Contenders:
        """To collect what may be among the first ``size``; see ``look``."""
        return Contenders(len(self.learnable), size, _SINGLE_PRECISION)

    def look(self, contenders: Contenders, rows: IntArray, logits: Tensor, odds: Tensor) -> None:
        """Add those of (B,) rows that may still come to the queue's head.

        The one-class error moves a score by three times its weight at most. Where that would not
        bring a row among the best so far, the error is not computed: the order is the same.

        Args:
            contenders: what ``contenders`` gave.
            rows: (B,) of the pool.
            logits: (K, B) of these rows.
            odds: (T', B) what ``weigh_up`` made of them.
        """
        fitted = self._known()
        scores = odds.numpy().T
        if fitted.weight:
            reach = np.float32(_MOST_NOVEL * fitted.weight)
            at = np.flatnonzero((scores + reach >= contenders.least).any(axis=1))
            if not len(at):
                return
            rows, scores = rows[at], scores[at]
            scores += self._extra(logits[:, torch.from_numpy(at)])[:, None].astype(np.float32)
        contenders.add(rows, scores)

    def _extra(self, logits: Tensor) -> NDArray[np.float64]:
        """(K, B) logits to (B,) what the one-class error adds to the log-odds."""
        fitted = self._known()
        novelty = log_error(fitted.autoencoder, logits.T.numpy()) - fitted.error_mean
        bounded = np.clip(novelty / fitted.error_scale, -_MOST_NOVEL, _MOST_NOVEL)
        extra: NDArray[np.float64] = fitted.weight * bounded
        return extra

    def weigh_up(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(K, B) logits to (B,) rarity, and (T', B) log-odds of each learnable class.

        The rarity is the tail's share at the prevalence that the priors say. The log-odds are of
        a class against all others as the layer was trained: all classes alike.
        """
        top = logits.amax(dim=0)
        powers = (logits - top).exp_()
        # 1 - p would lose what tells the best apart, where p is near 1: the others are summed.
        sums = self._sums.to(logits.dtype) @ powers
        return sums[0] / sums[1], logits[self.learnable] - top - sums[2:].log_()

    def _weights_of_sums(self) -> Tensor:
        """(2 + T', K): the tail and all classes by their priors, all but each learnable class."""
        seen, size = self._known().seen, self.classes.size
        if self.classes.class_priors is None:
            priors = (seen + 1) / (seen + 1).sum()
        else:
            priors = np.asarray(self.classes.class_priors, dtype=np.float64)
        if self.config.recalibration == "released":
            # Plain cross-entropy learned the labels' own shares, not equal ones.
            priors = priors / np.maximum(seen, 1)
        rows = np.ones((2 + len(self.learnable), size))
        rows[:2] = priors
        rows[0, ~np.isin(np.arange(size), self.classes.tail)] = 0
        rows[np.arange(2, len(rows)), self.learnable] = 0
        return torch.from_numpy(rows)

    def order(self, contenders: Examples, size: int) -> RankedQueue:
        """The queue's head, from a few examples that hold it.

        In double precision, and scores that differ by less than 1e-9 are ties: the order does not
        depend on the batches, threads or neighbours that an example was computed with.
        """
        fitted, columns = self._known(), self.learnable
        weights = torch.from_numpy(fitted.layer.weight).double()
        bias, priors = torch.from_numpy(fitted.layer.bias).double(), self._sums[1]
        scores: NDArray[np.float64] = np.empty((len(contenders), len(columns)))
        likelihood = np.empty_like(scores)
        for start, features in feature_batches(contenders, batch_rows(len(weights))):
            here = slice(start, start + len(features))
            logits = (features.double() @ weights + bias).T.contiguous()
            _, odds = self.weigh_up(logits)
            scores[here] = odds.T.numpy()
            if fitted.weight:
                scores[here] += self._extra(logits)[:, None]
            likely = torch.softmax(logits + priors.log()[:, None], dim=0)
            likelihood[here] = likely[columns].T.numpy()
        rows, turns = take_turns(
            scores.round(9),
            likelihood,
            contenders.ids,
            budget=size,
            give_up_share=self.config.give_up_share,
        )
        names = [f"tail {self.classes.names[k]}" for k in columns]
        return RankedQueue(ids=contenders.ids[rows], reasons=tuple(names[turn] for turn in turns))

    def reconstruction_error(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) the autoencoder's error, >= 0."""
        fitted = self._known()
        errors: NDArray[np.float64] = np.empty(len(examples))
        for start, (logits,) in Stacked([fitted.layer]).batches(examples):
            here = slice(start, start + logits.shape[1])
            errors[here] = fitted.autoencoder.errors(logits.T.numpy())
        return errors

    def weigh(self, weight: float) -> None:
        """Let the one-class error count so much instead of what cross-validation chose."""
        self._fitted = replace(self._known(), weight=weight)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Layer, autoencoder and a few numbers."""
        if self._fitted is None:
            return {}
        fitted = self._fitted
        return {
            **{f"layer.{name}": value for name, value in fitted.layer.state().items()},
            **{f"autoencoder.{name}": value for name, value in fitted.autoencoder.state().items()},
            "seen": fitted.seen,
            "blend": np.asarray([fitted.weight, fitted.error_mean, fitted.error_scale]),
        }

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take them back."""
        blend = state["blend"].astype(np.float64)
        self._fitted = _Fitted(
            layer=RecalibrationLayer.from_state(part(state, "layer.")),
            autoencoder=LogitAutoencoder.from_state(
                part(state, "autoencoder."), space=self.config.autoencoder_space
            ),
            seen=state["seen"].astype(np.float64),
            weight=float(blend[0]),
            error_mean=float(blend[1]),
            error_scale=float(blend[2]),
        )
        self.classes = classes
        self._sums = self._weights_of_sums()
        return self

    def _known(self) -> _Fitted:
        if self._fitted is None:
            raise RuntimeError("fit was not called")
        return self._fitted

    def _novel(self, pool: Examples, size: int) -> RankedQueue:
        """No tail class has a label: one-class error and diversity share the queue."""
        novel = best_rows(self.reconstruction_error(pool), pool.ids, size)
        spread = farthest_first(pool, np.empty((0, pool.features.shape[1])), size)
        taken: set[int] = set()
        order: list[int] = []
        reasons: list[str] = []
        for pair in zip(novel.tolist(), spread.tolist(), strict=True):
            for row, reason in zip(pair, ("one-class error", "diversity"), strict=True):
                if row not in taken:
                    taken.add(row)
                    order.append(row)
                    reasons.append(reason)
        ids = pool.ids[np.asarray(order[:size], dtype=np.int64)]
        return RankedQueue(ids=ids, reasons=tuple(reasons[:size]))
