"""The default scorer: tail likelihood of a regularised layer, one-class error, turns by class.

Where labels of a tail class exist, its likelihood decides and the autoencoder, fitted on head
rows only, adds as much as cross-validation on the labels says it is worth. Where no tail class
has a label, the autoencoder and diversity are what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.autoencoder import LogitAutoencoder, softmax
from models.config import AutoencoderConfig, MinerConfig, RecalibrationConfig
from models.errors import NoTailClass
from models.recalibration import RecalibrationLayer
from models.scorers.base import State, check_examples, check_labeled, descending, part
from models.scorers.blend import choose_weight, log_error
from models.scorers.diversity import farthest_first
from models.scorers.turns import take_turns
from models.types import ClassSpace, Examples, LabeledExamples, RankedQueue

_TINY = 1e-12


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

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """Tail classes in turn, each by its own order; see ``take_turns``."""
        fitted = self._known()
        check_examples(pool)
        size = min(max(budget, 0), len(pool))
        learnable = [k for k in self.classes.tail if fitted.seen[k] > 0]
        if not learnable:
            return self._novel(pool, size)
        logits = fitted.layer.logits(pool.features)
        balanced = softmax(logits)
        likelihood = self._calibrated(balanced)
        extra: NDArray[np.float64] = np.zeros(len(pool))
        if fitted.weight and len(pool):
            novelty = log_error(fitted.autoencoder, logits) - fitted.error_mean
            extra = fitted.weight * np.clip(novelty / fitted.error_scale, -3, 3)
        columns: list[NDArray[np.float64]] = []
        for k in learnable:
            p = np.clip(balanced[:, k], _TINY, 1 - _TINY)
            columns.append(np.log(p) - np.log1p(-p) + extra)
        rows, turns = take_turns(
            np.stack(columns, axis=1),
            likelihood[:, learnable],
            pool.ids,
            budget=size,
            give_up_share=self.config.give_up_share,
        )
        names = [f"tail {self.classes.names[k]}" for k in learnable]
        return RankedQueue(ids=pool.ids[rows], reasons=tuple(names[turn] for turn in turns))

    def tail_probabilities(self, examples: Examples) -> NDArray[np.float64]:
        """(N, T) likelihood of each tail class, at the prevalence that the priors say."""
        return self._calibrated(softmax(self._logits(examples)))[:, list(self.classes.tail)]

    def reconstruction_error(self, examples: Examples) -> NDArray[np.float64]:
        """(N,) the autoencoder's error, >= 0."""
        return self._known().autoencoder.errors(self._logits(examples))

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

    def _logits(self, examples: Examples) -> NDArray[np.float32]:
        check_examples(examples)
        return self._known().layer.logits(examples.features)

    def _calibrated(self, balanced: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the layer's training prior (all classes alike) to the project's."""
        seen = self._known().seen
        if self.classes.class_priors is None:
            priors = (seen + 1) / (seen + 1).sum()
        else:
            priors = np.asarray(self.classes.class_priors, dtype=np.float64)
        weighed = balanced * priors
        if self.config.recalibration == "released":
            # Plain cross-entropy learned the labels' own shares, not equal ones.
            weighed = weighed / np.maximum(seen, 1)
        total = weighed.sum(axis=1, keepdims=True)
        calibrated: NDArray[np.float64] = weighed / np.maximum(total, _TINY)
        return calibrated

    def _novel(self, pool: Examples, size: int) -> RankedQueue:
        """No tail class has a label: one-class error and diversity share the queue."""
        if not size:
            return RankedQueue(ids=pool.ids[:0])
        errors = self.reconstruction_error(pool)
        novel = descending(errors, pool.ids)
        spread = farthest_first(pool, np.empty((0, pool.features.shape[1])), size)
        taken: set[int] = set()
        order: list[int] = []
        reasons: list[str] = []
        for pair in zip(novel[:size].tolist(), spread.tolist(), strict=True):
            for row, reason in zip(pair, ("one-class error", "diversity"), strict=True):
                if row not in taken:
                    taken.add(row)
                    order.append(row)
                    reasons.append(reason)
        ids = pool.ids[np.asarray(order[:size], dtype=np.int64)]
        return RankedQueue(ids=ids, reasons=tuple(reasons[:size]))
