"""A one-class model of logits: what it has not learned, it reconstructs badly.

A seeded ensemble of small autoencoders is trained as one batched model with hand-written
gradients: at a width of ten, autograd's overhead is most of the time.
Source: Singh et al. 2021, arXiv:2112.07835, section 3 (widths, loss); the ``prob`` space, which
feeds softmax instead of logits, is the released code's.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import AutoencoderConfig
from models.errors import ShapeError
from models.streaming import tensor_of
from models.types import FloatArray

logger = logging.getLogger(__name__)

Weights = NDArray[np.float32]
_WIDE = 100  # classes from which the published widths hold only a few directions
_TRIES = 3
_ERROR_ROWS = 8192
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


def widths(num_classes: int) -> tuple[int, int]:
    """Hidden and bottleneck width; the bottleneck is always narrower than the input."""
    if num_classes > _WIDE:
        return min(num_classes, 128), min(num_classes - 1, 64)
    if num_classes >= 10:
        return 10, 9  # the paper's
    return num_classes, max(1, num_classes - 1)


def softmax(logits: FloatArray) -> NDArray[np.float64]:
    """(..., K) logits to probabilities."""
    shifted = np.asarray(logits, dtype=np.float64)
    powers = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    out: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return out


class LogitAutoencoder:
    """M members, each K -> hidden -> bottleneck -> hidden -> K.

    Args:
        layers: four (M, in + 1, out) float32 arrays; the last row of each is its bias.
        space: what goes in and how errors are measured.
    """

    def __init__(self, layers: tuple[Weights, ...], *, space: Literal["prob", "logit"]) -> None:
        self.layers = layers
        self.space: Literal["prob", "logit"] = space

    @property
    def num_classes(self) -> int:
        """K."""
        return self.layers[-1].shape[2]

    @classmethod
    def fit(
        cls, logits: FloatArray, *, config: AutoencoderConfig | None = None, seed: int = 0
    ) -> LogitAutoencoder:
        """Train every member on all rows.

        Args:
            logits: (N, K) logits, K >= 2, N >= 1; which rows belong in is the caller's choice.
            config: space, size of the ensemble, budget in optimiser steps.
            seed: of initialisation and batches.

        Raises: ShapeError: if the logits have another shape or are not finite.
        """
        config = config or AutoencoderConfig()
        _check(logits, None)
        inputs = _inputs(logits, config.space)
        rng = np.random.default_rng(seed)
        epochs_in_steps = config.epochs * math.ceil(len(inputs) / config.batch)
        steps = min(max(config.min_steps, epochs_in_steps), max(config.max_steps, config.min_steps))
        layers = _initial(inputs.shape[1], config.members, rng)
        dead = np.ones(config.members, dtype=bool)
        for _ in range(_TRIES):
            fresh = _initial(inputs.shape[1], int(dead.sum()), rng)
            before = _mean_squares(fresh, inputs)
            trained = _train(fresh, inputs, steps=steps, config=config, rng=rng)
            for layer, new in zip(layers, trained, strict=True):
                layer[dead] = new
            # All rows alike are reconstructed at once; nothing is left to drop.
            after = _mean_squares(trained, inputs)
            still = (after > 0.5 * before) & (after > 1e-6)
            dead[np.flatnonzero(dead)] = still
            if not dead.any():
                break
            logger.info("%s of %s autoencoders learned nothing: again", dead.sum(), config.members)
        return cls(layers, space=config.space)

    def member_errors(self, logits: FloatArray) -> NDArray[np.float64]:
        """(N, K) logits to (M, N) reconstruction errors, each >= 0.

        In ``prob`` space the mean square between softmax and the raw output; in ``logit`` space
        the squared distance between the softmax of input and of output, in [0, 2]. Computed in
        double precision where the logits are, else in single.
        """
        _check(logits, self.num_classes)
        dtype = torch.float64 if logits.dtype == np.float64 else torch.float32
        layers = [torch.from_numpy(layer).to(dtype) for layer in self.layers]
        errors = torch.empty((layers[0].shape[0], len(logits)), dtype=torch.float64)
        for start in range(0, len(logits), _ERROR_ROWS):
            part = tensor_of(logits[start : start + _ERROR_ROWS]).to(dtype)
            inputs = (torch.softmax(part, dim=1) if self.space == "prob" else part).T.contiguous()
            out = _reconstructed(layers, inputs)
            if self.space == "logit":
                squares = (torch.softmax(inputs, dim=0) - torch.softmax(out, dim=1)) ** 2
                errors[:, start : start + len(part)] = squares.sum(dim=1)
            else:
                errors[:, start : start + len(part)] = ((inputs - out) ** 2).mean(dim=1)
        found: NDArray[np.float64] = errors.numpy()
        return found

    def errors(self, logits: FloatArray) -> NDArray[np.float64]:
        """(N,) mean error over members; higher is less like what was learned."""
        mean: NDArray[np.float64] = self.member_errors(logits).mean(axis=0)
        return mean

    def spread(self, logits: FloatArray) -> NDArray[np.float64]:
        """(N,) standard deviation over members."""
        spread: NDArray[np.float64] = self.member_errors(logits).std(axis=0)
        return spread

    def state(self) -> dict[str, Weights]:
        """What must be stored."""
        return {f"layer{number}": layer for number, layer in enumerate(self.layers)}

    @classmethod
    def from_state(
        cls, state: Mapping[str, Weights], *, space: Literal["prob", "logit"]
    ) -> LogitAutoencoder:
        """The ensemble that ``state`` came from."""
        return cls(tuple(state[f"layer{number}"] for number in range(4)), space=space)


def _check(logits: FloatArray, num_classes: int | None) -> None:
    if (
        logits.ndim != 2
        or logits.shape[1] < 2
        or (num_classes or logits.shape[1]) != (logits.shape[1])
    ):
        raise ShapeError(f"found logits {logits.shape}, expected (N, {num_classes or 'K >= 2'})")
    if num_classes is None and not len(logits):
        raise ShapeError("found no row to learn from; expected at least one")
    if not np.isfinite(logits).all():
        raise ShapeError("found NaN or infinite logits; embed those images again")


def _inputs(logits: FloatArray, space: str) -> Weights:
    values = softmax(logits) if space == "prob" else logits
    return np.ascontiguousarray(values, dtype=np.float32)


def _initial(num_classes: int, members: int, rng: np.random.Generator) -> tuple[Weights, ...]:
    """Uniform in +-1/sqrt(fan in), weights and bias, as the framework does by default."""
    hidden, code = widths(num_classes)
    sizes = (num_classes, hidden, code, hidden, num_classes)
    return tuple(
        rng.uniform(-1, 1, (members, fan_in + 1, fan_out)).astype(np.float32)
        / np.float32(math.sqrt(fan_in))
        for fan_in, fan_out in itertools.pairwise(sizes)
    )


def _forward(layers: tuple[Weights, ...], inputs: Weights) -> list[Weights]:
    """Input of each layer with a column of ones, then the output (M, N, K)."""
    members = layers[0].shape[0]
    current = np.broadcast_to(inputs, (members, *inputs.shape[-2:]))
    acts: list[Weights] = []
    for number, layer in enumerate(layers):
        padded = np.ones((*current.shape[:2], current.shape[2] + 1), dtype=np.float32)
        padded[:, :, :-1] = current
        acts.append(padded)
        current = padded @ layer
        if number < len(layers) - 1:
            np.maximum(current, 0, out=current)
    acts.append(current)
    return acts


def _reconstructed(layers: list[Tensor], inputs: Tensor) -> Tensor:
    """(K, B) inputs, examples in columns, to every member's output (M, K, B).

    Products with a few rows and many columns are several times as fast as the other way round.
    """
    members, above, hidden = layers[0].shape
    # All members look at the same inputs: their first layers are one matrix.
    first = layers[0].transpose(1, 2).reshape(members * hidden, above)
    current = torch.addmm(first[:, -1:], first[:, :-1], inputs).reshape(members, hidden, -1)
    for layer in layers[1:]:
        current = current.relu_()
        turned = layer.transpose(1, 2)
        current = torch.baddbmm(turned[:, :, -1:], turned[:, :, :-1], current)
    return current


def _mean_squares(layers: tuple[Weights, ...], inputs: Weights) -> NDArray[np.float64]:
    """(M,) over at most 2,000 rows."""
    part = inputs[:: max(1, len(inputs) // 2000)]
    out = _forward(layers, part)[-1].astype(np.float64)
    mean: NDArray[np.float64] = ((out - part) ** 2).mean(axis=(1, 2))
    return mean


def _train(
    layers: tuple[Weights, ...],
    inputs: Weights,
    *,
    steps: int,
    config: AutoencoderConfig,
    rng: np.random.Generator,
) -> tuple[Weights, ...]:
    """Adam on the mean square; every member draws its own batches."""
    members, size = layers[0].shape[0], min(config.batch, len(inputs))
    shapes = [layer.shape for layer in layers]
    ends = np.cumsum([layer.size for layer in layers])
    flat = np.concatenate([layer.ravel() for layer in layers])
    gradient, first, second = np.empty_like(flat), np.zeros_like(flat), np.zeros_like(flat)
    views, gradients = _views(flat, ends, shapes), _views(gradient, ends, shapes)
    acts = [np.ones((members, size, shape[1]), dtype=np.float32) for shape in shapes]
    outs = [np.empty((members, size, shape[2]), dtype=np.float32) for shape in shapes]
    backs = [np.empty((members, size, shape[1] - 1), dtype=np.float32) for shape in shapes]
    scale = np.float32(2.0 / (size * inputs.shape[1]))
    scratch = np.empty_like(flat)
    draws: NDArray[np.int64] = np.empty((0, members, size), dtype=np.int64)
    for step in range(1, steps + 1):
        at = (step - 1) % 256
        if at == 0:
            draws = rng.integers(0, len(inputs), (256, members, size))
        batch = inputs[draws[at]]  # (M, B, K)
        acts[0][:, :, :-1] = batch
        for number, layer in enumerate(views):
            np.matmul(acts[number], layer, out=outs[number])
            if number < 3:
                np.maximum(outs[number], 0, out=acts[number + 1][:, :, :-1])
        signal = outs[3]
        signal -= batch
        signal *= scale
        for number in (3, 2, 1, 0):
            np.matmul(acts[number].transpose(0, 2, 1), signal, out=gradients[number])
            if number:
                np.matmul(signal, views[number][:, :-1].transpose(0, 2, 1), out=backs[number])
                backs[number] *= outs[number - 1] > 0
                signal = backs[number]
        first *= _BETA1
        np.multiply(gradient, 1 - _BETA1, out=scratch)
        first += scratch
        second *= _BETA2
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - _BETA2
        second += scratch
        correction = math.sqrt(1 - _BETA2**step)
        np.sqrt(second, out=scratch)
        scratch += np.float32(_EPSILON * correction)
        np.divide(first, scratch, out=scratch)
        scratch *= np.float32(config.learning_rate * correction / (1 - _BETA1**step))
        flat -= scratch
    return tuple(view.copy() for view in views)


def _views(flat: Weights, ends: NDArray[np.int64], shapes: list[tuple[int, ...]]) -> list[Weights]:
    starts = [0, *ends[:-1].tolist()]
    return [
        flat[start:end].reshape(shape)
        for start, end, shape in zip(starts, ends.tolist(), shapes, strict=True)
    ]
