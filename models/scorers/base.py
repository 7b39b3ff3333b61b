"""What every scorer shares: the checks of its inputs, stable orders, and the original head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import MinerConfig, RecalibrationConfig
from models.errors import ShapeError
from models.recalibration import RecalibrationLayer
from models.scorers.best import best_rows
from models.scorers.needs import Needs
from models.streaming import Stacked, batch_rows, feature_batches, refuse_infinite, tensor_of
from models.types import ClassSpace, Examples, FloatArray, IntArray, LabeledExamples, RankedQueue

State = Mapping[str, NDArray[np.generic]]

_LABEL = "head.label"

# The plain head stands in for a trained one: plain cross-entropy, hardly shrunk.
_PLAIN = RecalibrationConfig(form="regularised", gamma=0.0, balanced=False, l2=0.01)


class StoredScorer(Protocol):
    """A ``Scorer`` that is made from settings and can be stored.

    Attributes:
        needs: what it cannot be fitted without; ``fit`` refuses by it.
    """

    needs: ClassVar[Needs]

    def __init__(self, config: MinerConfig) -> None: ...

    def fit(
        self, labeled: LabeledExamples, pool: Examples, *, classes: ClassSpace, seed: int
    ) -> Self:
        """Learn from the labels, and from the pool if it likes."""

    def rank(self, pool: Examples, *, budget: int, seed: int) -> RankedQueue:
        """The first ``min(budget, N)`` of the pool, each id once, rarest first."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What must be stored beside settings and classes."""

    def restore(self, state: State, *, classes: ClassSpace) -> Self:
        """Take back what ``state`` gave."""


def check_labeled(labeled: LabeledExamples, classes: ClassSpace) -> None:
    """Refuse labels that cannot be read; whether they suffice, ``check_needs`` says.

    Raises: ShapeError: if features are not finite, or a target or a tail class is outside [0, K).
    """
    tail = classes.tail
    if tail and not 0 <= min(tail) <= max(tail) < classes.size:
        raise ShapeError(
            f"found tail classes {list(tail)}, expected numbers in [0, {classes.size}): leave out "
            "what the label config no longer holds"
        )
    check_examples(labeled.examples)
    targets = labeled.targets
    if targets.shape != labeled.examples.ids.shape:
        raise ShapeError(f"found {targets.shape} targets for {labeled.examples.ids.shape} examples")
    if len(targets) and (targets.min() < 0 or targets.max() >= classes.size):
        raise ShapeError(
            f"found targets from {targets.min()} to {targets.max()}; expected [0, {classes.size}): "
            "labels that the label config no longer holds must be left out"
        )


def check_examples(examples: Examples) -> None:
    """Refuse features that are not (N, D), finite and one for each id.

    Raises: ShapeError: with what was found.
    """
    check_shapes(examples)
    for start, features in feature_batches(examples, batch_rows(examples.features.shape[1])):
        # NaN and infinity of one feature reach the sum of all.
        if not bool(torch.isfinite(features.sum())):
            refuse_infinite(examples.ids[start : start + len(features)], features)


def check_shapes(examples: Examples) -> None:
    """Refuse features and logits that are not one row for each id.

    Raises: ShapeError: with what was found.
    """
    features, at = examples.features, examples.at
    if features.ndim != 2 or len(features if at is None else at) != len(examples.ids):
        raise ShapeError(f"found features {features.shape} for {len(examples.ids)} ids")
    if examples.logits is not None and len(examples.logits) != len(features):
        raise ShapeError(f"found {len(examples.logits)} logits for {len(features)} examples")


def head_of_queue(scores: FloatArray, pool: Examples, budget: int, reason: str) -> RankedQueue:
    """The ``budget`` highest scores as a queue, all for one reason; ties by id.

    Scores that differ by less than 1e-9 are ties: what is computed in double precision then does
    not depend on the batches or neighbours that it was computed with.
    """
    ids = pool.ids[best_rows(scores.round(9), pool.ids, budget)]
    return RankedQueue(ids=ids, reasons=(reason,) * len(ids))


class OriginalHead:
    """The frozen model's own logits or head, or a plain linear head fitted in its place.

    Args:
        plain: a head on the features; None where the examples carry the model's logits.
        num_classes: K.
        label: (M,) which class each output of ``plain`` stands for; None: K outputs in order.
    """

    def __init__(
        self, plain: RecalibrationLayer | None, *, num_classes: int, label: IntArray | None = None
    ) -> None:
        self.plain = plain
        self.num_classes = num_classes
        self.label = label

    @classmethod
    def fit(cls, labeled: LabeledExamples, *, num_classes: int) -> OriginalHead:
        """Take the model's own head where the examples carry its logits, else fit one.

        Raises: NotEnoughLabels: if one must be fitted and one class only has labels.
        """
        own = labeled.head
        if own is not None:
            if (
                own.num_labels != num_classes
                or len(own.weight) != labeled.examples.features.shape[1]
            ):
                raise ShapeError(
                    f"found a head from {len(own.weight)} features to {own.num_labels} classes; "
                    f"expected from {labeled.examples.features.shape[1]} to {num_classes}"
                )
            layer = RecalibrationLayer(own.weight, own.bias)
            return cls(layer, num_classes=num_classes, label=own.label)
        if labeled.examples.logits is not None:
            _check_logits(labeled.examples.logits, num_classes)
            return cls(None, num_classes=num_classes)
        layer = RecalibrationLayer.fit(
            labeled.examples.dense().features,
            labeled.targets,
            num_classes=num_classes,
            config=_PLAIN,
        )
        return cls(layer, num_classes=num_classes)

    def batches(self, examples: Examples) -> Iterator[tuple[int, Tensor]]:
        """For each batch of examples its start and (K, B) softmax, float32.

        Raises: ShapeError: if the examples lack the logits that the head was fitted to expect, or
            features are not finite or of another size.
        """
        check_shapes(examples)
        if self.plain is not None:
            for start, (logits,) in Stacked([self.plain]).batches(examples):
                yield start, self.shares(logits)
            return
        check_examples(examples)
        rows = batch_rows(self.num_classes)
        for start in range(0, len(examples), rows):
            yield start, self.softmax_of(examples, start, min(start + rows, len(examples)))

    def shares(self, logits: Tensor) -> Tensor:
        """(M, B) logits of ``plain`` to (K, B) softmax: a class has the shares of its outputs."""
        each = torch.softmax(logits, dim=0)
        if self.label is None:
            return each
        summed = torch.zeros((self.num_classes, each.shape[1]))
        return summed.index_add_(0, torch.from_numpy(self.label), each)

    def softmax_of(self, examples: Examples, start: int, stop: int) -> Tensor:
        """(K, B) softmax of the frozen model's own logits of some examples.

        Raises: ShapeError: if there are none over these classes.
        """
        return torch.softmax(self._own_logits(examples, start, stop).float(), dim=0)

    def log_batches(self, examples: Examples) -> Iterator[tuple[int, Tensor]]:
        """For each batch of examples its start and (K, B) logarithms of the softmax, float64.

        Slower than ``batches``, for orders: double precision tells apart what single precision
        saturates at 0 or 1, and does not depend on the batch.

        Raises: ShapeError: as ``batches``, and if logits are not finite.
        """
        if self.plain is not None:
            for start, logits in exact_logits(self.plain, examples):
                yield start, self._log_shares(logits)
            return
        check_examples(examples)
        rows = batch_rows(2 * self.num_classes)
        for start in range(0, len(examples), rows):
            logits = self._own_logits(examples, start, min(start + rows, len(examples)))
            if not bool(torch.isfinite(logits).all()):
                raise ShapeError("found NaN or infinite logits; embed those images again")
            yield start, torch.log_softmax(logits.double(), dim=0)

    def _log_shares(self, logits: Tensor) -> Tensor:
        """(M, B) logits of ``plain`` to (K, B): the logsumexp over each class's outputs."""
        each = torch.log_softmax(logits, dim=0)
        if self.label is None:
            return each
        label = torch.from_numpy(self.label)
        most = torch.full((self.num_classes, each.shape[1]), -torch.inf, dtype=each.dtype)
        most.scatter_reduce_(0, label[:, None].expand_as(each), each, "amax")
        sums = torch.zeros_like(most).index_add_(0, label, (each - most[label]).exp_())
        return most + sums.log_()

    def _own_logits(self, examples: Examples, start: int, stop: int) -> Tensor:
        """(K, B) of the frozen model's own logits, as stored."""
        logits = _check_logits(examples.logits, self.num_classes)
        part = logits[start:stop] if examples.at is None else logits[examples.at[start:stop]]
        return tensor_of(part).T.contiguous()

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What must be stored."""
        if self.plain is None:
            return {}
        found: dict[str, NDArray[np.generic]] = {
            f"head.{name}": value for name, value in self.plain.state().items()
        }
        return found if self.label is None else {**found, _LABEL: self.label}

    @classmethod
    def from_state(cls, state: State, *, num_classes: int) -> OriginalHead:
        """The head that ``state`` came from."""
        stored = part(state, "head.")
        plain = RecalibrationLayer.from_state(stored) if stored else None
        label = state[_LABEL].astype(np.int64) if _LABEL in state else None
        return cls(plain, num_classes=num_classes, label=label)


def exact_logits(layer: RecalibrationLayer, examples: Examples) -> Iterator[tuple[int, Tensor]]:
    """For each batch of examples its start and the layer's (K, B) logits, float64.

    Raises: ShapeError: if features are not finite or not as wide as the layer.
    """
    check_shapes(examples)
    weight = torch.from_numpy(layer.weight).double()
    bias = torch.from_numpy(layer.bias).double()
    if examples.features.shape[1] != len(weight):
        raise ShapeError(
            f"found features {examples.features.shape}; the layer was fitted on (N, "
            f"{len(weight)}) by another frozen model; fit again"
        )
    rows = batch_rows(3 * len(weight), 2 * len(bias))
    for start, features in feature_batches(examples, rows):
        logits = torch.addmm(bias, features.double(), weight).T.contiguous()
        if not bool(torch.isfinite(logits.sum())):
            refuse_infinite(examples.ids[start : start + len(features)], features)
        yield start, logits


def _check_logits(logits: FloatArray | None, num_classes: int) -> FloatArray:
    if logits is None or logits.ndim != 2 or logits.shape[1] != num_classes:
        found = None if logits is None else logits.shape
        raise ShapeError(
            f"found logits {found}; expected (N, {num_classes}): a miner that was fitted with the "
            "frozen model's own head needs its logits"
        )
    return logits


def part(state: State, prefix: str) -> dict[str, NDArray[np.float32]]:
    """The float arrays whose name starts with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): value.astype(np.float32, copy=False)
        for name, value in state.items()
        if name.startswith(prefix)
    }


def part_of(state: State, prefix: str) -> dict[str, NDArray[np.generic]]:
    """The arrays whose name starts with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
