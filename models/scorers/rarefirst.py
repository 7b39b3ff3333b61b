"""The default scorer: tail likelihood of a regularised layer, one-class error, turns by class.

Where labels of a tail class exist, its likelihood decides and the autoencoder, fitted on head
rows only, adds as much as cross-validation on the labels says it is worth. Where no tail class
has a label, the autoencoder and diversity are what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.autoencoder import LogitAutoencoder
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.errors import NoTailClass
from models.recalibration import RecalibrationLayer
from models.scorers.base import State, check_labeled, check_shapes, part
from models.scorers.best import Contenders, best_rows
from models.scorers.blend import choose_weight, log_error
from models.scorers.diversity import farthest_first
from models.scorers.turns import take_turns
from models.streaming import Stacked, batch_rows, feature_batches
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue

_MOST_NOVEL = 3.0  # standard deviations by which the one-class error may move a score
_SINGLE_PRECISION = 1e-3  # log-odds by which single precision may be wrong, with room to spare


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
    """Rarest first, tail classes in turn."""

    learns: ClassVar[bool] = True

    def __init__(self, config: MinerConfig) -> None:
        self.config = config
        self.classes = ClassSpace(())
        self._fitted: _Fitted | None = None

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Fit layer and autoencoder, and weigh the two against each other.

        Raises:
            NoTailClass: if no class is in the tail.
            NotEnoughLabels: if fewer than two classes have labels.
            ShapeError: if the input is not what ``Examples`` says.
        """
        check_labeled(labeled, classes, learns=True)
        if not classes.tail:
            raise NoTailClass("no class is in the tail; name one, or label until one is rare")
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
            contenders.add(np.arange(start, start + len(logits)), self.odds(logits).numpy())
        return self.order(pool.take(contenders.rows()), size)

    def contenders(self, size: int) -> Contenders:
        """To collect rows that may be among the first ``size``, by their ``odds``.

        The one-class error moves a score by three times its weight at most. So it is computed for
        those rows only that can still come to the head of the queue: the order is the same.
        """
        slack = 2 * _MOST_NOVEL * self._known().weight + _SINGLE_PRECISION
        return Contenders(len(self.learnable), size, slack)

    def odds(self, logits: Tensor) -> Tensor:
        """(B, K) logits to (B, T') log-odds of each learnable class against all others."""
        columns = self.learnable
        log_p = torch.log_softmax(logits, dim=1)
        # 1 - p would lose what tells the best apart: p is near 1 there.
        others = torch.ones((logits.shape[1], len(columns)), dtype=logits.dtype)
        others[columns, range(len(columns))] = 0
        return log_p[:, columns] - torch.log(log_p.exp() @ others)

    def order(self, contenders: Examples, size: int) -> RankedQueue:
        """The queue's head, from a few examples that hold it.

        In double precision, and scores that differ by less than 1e-9 are ties: the order does not
        depend on the batches, threads or neighbours that an example was computed with.
        """
        fitted, columns = self._known(), self.learnable
        weight, bias = fitted.layer.weight.astype(float), fitted.layer.bias.astype(float)
        scores: NDArray[np.float64] = np.empty((len(contenders), len(columns)))
        likelihood = np.empty_like(scores)
        for start, features in feature_batches(contenders, batch_rows(len(weight))):
            here = slice(start, start + len(features))
            logits = features.double() @ torch.from_numpy(weight) + torch.from_numpy(bias)
            scores[here] = self.odds(logits).numpy()
            if fitted.weight:
                novelty = log_error(fitted.autoencoder, logits.numpy()) - fitted.error_mean
                novelty = np.clip(novelty / fitted.error_scale, -_MOST_NOVEL, _MOST_NOVEL)
                scores[here] += fitted.weight * novelty[:, None]
            likelihood[here] = self.probabilities(logits)[:, columns].numpy()
        rows, turns = take_turns(
            scores.round(9),
            likelihood,
            contenders.ids,
            budget=size,
            give_up_share=self.config.give_up_share,
        )
        names = [f"tail {self.classes.names[k]}" for k in columns]
        return RankedQueue(ids=contenders.ids[rows], reasons=tuple(names[turn] for turn in turns))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, K) logits to the likelihood of each class at the prevalence that the priors say.

        The layer was trained with all classes alike; the priors bring their shares back in.
        """
        seen = self._known().seen
        if self.classes.class_priors is None:
            priors = seen + 1
        else:
            priors = np.asarray(self.classes.class_priors, dtype=np.float64)
        if self.config.recalibration == "released":
            # Plain cross-entropy learned the labels' own shares, not equal ones.
            priors = priors / np.maximum(seen, 1)
        return torch.softmax(logits + torch.from_numpy(priors).log().to(logits.dtype), dim=1)

    def reconstruction_error(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) the autoencoder's error, >= 0."""
        fitted = self._known()
        errors: NDArray[np.float64] = np.empty(len(examples))
        for start, (logits,) in Stacked([fitted.layer]).batches(examples):
            errors[start : start + len(logits)] = fitted.autoencoder.errors(logits.numpy())
        return errors

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
