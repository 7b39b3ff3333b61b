"""The re-calibration layer: a fresh last layer on frozen features, so that the tail speaks.

Three forms (METHODS section 2 and section 19 item 2). Ours is regularised and convex but for the
focal factor: standardised features, classes weighed alike, L2, full-batch L-BFGS, no hold-out.
The paper's is trained briefly by Adam with early stopping; the released code's by cross-entropy
for a fixed number of epochs.
Source: Singh et al. 2021, arXiv:2112.07835, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from models.config import RecalibrationConfig
from models.errors import NotEnoughLabels, ShapeError
from models.losses import focal_loss_and_gradient
from models.types import FloatArray, IntArray

_LEARNING_RATE, _BATCH, _HOLD_OUT = 1e-3, 64, 0.1  # the released code's, and ours for the last
_DOUBLE_UP_TO = 2_000_000  # entries of the feature matrix; more are computed in float32


class RecalibrationLayer:
    """A linear layer from D features to K logits.

    Args:
        weight: (D, K) float32.
        bias: (K,) float32.
    """

    def __init__(self, weight: FloatArray, bias: FloatArray) -> None:
        self.weight = np.asarray(weight, dtype=np.float32)
        self.bias = np.asarray(bias, dtype=np.float32)

    @classmethod
    def fit(
        cls,
        features: FloatArray,
        targets: IntArray,
        *,
        num_classes: int,
        config: RecalibrationConfig | None = None,
        seed: int = 0,
    ) -> RecalibrationLayer:
        """Train the layer.

        Args:
            features: (N, D), finite.
            targets: (N,) in [0, K); a class without labels is trained as a negative only.
            num_classes: K.
            config: which form, and its numbers.
            seed: of initialisation, hold-out and batches (the regularised form has none).

        Raises:
            ShapeError: if shapes do not fit or a target is out of range.
            NotEnoughLabels: if fewer than two classes have labels.
        """
        config = config or RecalibrationConfig()
        if features.ndim != 2 or targets.shape != features.shape[:1] or not len(targets):
            raise ShapeError(
                f"found features {features.shape} and targets {targets.shape}; "
                "expected (N, D) and (N,) with N > 0"
            )
        counts = np.bincount(targets, minlength=num_classes)
        if len(counts) > num_classes:
            raise ShapeError(f"found class {int(targets.max())} of {num_classes} classes")
        if np.count_nonzero(counts) < 2:
            raise NotEnoughLabels(
                f"all {len(targets)} labels are of one class; label an example of another one"
            )
        if config.form == "regularised":
            return cls(*_regularised(features, targets, counts, config))
        return cls(*_by_steps(features, targets, counts, config, seed))

    def logits(self, features: FloatArray) -> NDArray[np.float32]:
        """(N, D) features to (N, K) logits.

        Raises: ShapeError: if D is not what the layer was fitted on.
        """
        if features.ndim != 2 or features.shape[1] != len(self.weight):
            raise ShapeError(
                f"found features {features.shape}; the layer was fitted on (N, "
                f"{len(self.weight)}) by another frozen model; fit again"
            )
        out: NDArray[np.float32] = features.astype(np.float32, copy=False) @ self.weight + self.bias
        return out

    def state(self) -> dict[str, NDArray[np.float32]]:
        """What must be stored."""
        return {"weight": self.weight, "bias": self.bias}

    @classmethod
    def from_state(cls, state: Mapping[str, FloatArray]) -> RecalibrationLayer:
        """The layer that ``state`` came from."""
        return cls(state["weight"], state["bias"])


def standardisation(features: FloatArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and scale of each feature, (D,) both; a feature that hardly varies is not blown up."""
    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    # A unit that fires for one labeled image in a hundred must not decide for the pool.
    floor = 0.05 * math.sqrt(float((scale**2).mean()))
    return mean, np.maximum(scale, floor if floor > 0 else 1.0)


def _regularised(
    features: FloatArray, targets: IntArray, counts: IntArray, config: RecalibrationConfig
) -> tuple[FloatArray, FloatArray]:
    mean, scale = standardisation(features)
    dtype = np.dtype(np.float64 if features.size <= _DOUBLE_UP_TO else np.float32)
    x: FloatArray = np.subtract(features, mean, dtype=dtype)
    np.divide(x, scale, out=x, dtype=dtype)
    if config.balanced:
        each = 1.0 / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        each = np.full(len(counts), 1.0 / len(targets))
    weights: FloatArray = each.astype(dtype)[targets]  # (N,), summing to 1
    # One array (D + 1, K): the last row is the bias, which is not shrunk. Tensors share it.
    values = np.zeros((x.shape[1] + 1, len(counts)), dtype=dtype)
    gradient = np.zeros_like(values)
    parameters = torch.from_numpy(values)
    parameters.grad = torch.from_numpy(gradient)
    optimiser = torch.optim.LBFGS(
        [parameters],
        max_iter=config.iterations,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        loss, by_logits = focal_loss_and_gradient(
            x @ values[:-1] + values[-1], targets, weights, gamma=config.gamma
        )
        np.matmul(x.T, by_logits, out=gradient[:-1])
        gradient[:-1] += config.l2 * values[:-1]
        gradient[-1] = by_logits.sum(axis=0)
        return loss + 0.5 * config.l2 * float((values[:-1] ** 2).sum())

    with torch.no_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    solved = values.astype(np.float64)
    weight = solved[:-1] / scale[:, None]
    return weight, solved[-1] - mean @ weight


def _by_steps(
    features: FloatArray,
    targets: IntArray,
    counts: IntArray,
    config: RecalibrationConfig,
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """The paper's and the released code's form: minibatches of 64, Adam, a few epochs."""
    paper = config.form == "paper"
    rng = np.random.default_rng(seed)
    x = features.astype(np.float32)
    gamma = config.gamma if paper else 0.0
    alpha = _alpha(counts, config.alpha_cap) if paper else np.ones(len(counts))
    weights = alpha.astype(np.float32)[targets]
    held = _held_out(targets, counts, rng) if paper else np.zeros(len(targets), dtype=bool)
    rows = np.flatnonzero(~held)
    # The framework's own initialisation of a linear layer; the last row is the bias.
    bound = 1 / math.sqrt(x.shape[1])
    values = rng.uniform(-bound, bound, (x.shape[1] + 1, len(counts))).astype(np.float32)
    parameters = torch.from_numpy(values)
    gradient = np.zeros_like(values)
    parameters.grad = torch.from_numpy(gradient)
    optimiser = torch.optim.Adam([parameters], lr=_LEARNING_RATE)
    best, best_loss, waited = values.copy(), math.inf, 0
    per_epoch = math.ceil(len(rows) / _BATCH)
    passes = max(1, math.ceil(config.min_steps / (per_epoch * config.epochs)))
    with torch.no_grad():
        for _ in range(config.epochs):
            for batch in _batches(rows, passes, rng):
                _, by_logits = focal_loss_and_gradient(
                    x[batch] @ values[:-1] + values[-1],
                    targets[batch],
                    weights[batch] / np.float32(len(batch)),
                    gamma=gamma,
                )
                np.matmul(x[batch].T, by_logits, out=gradient[:-1])
                gradient[-1] = by_logits.sum(axis=0)
                optimiser.step()
            if not held.any():
                continue
            loss, _ = focal_loss_and_gradient(
                x[held] @ values[:-1] + values[-1], targets[held], weights[held], gamma=gamma
            )
            if loss < best_loss:
                best, best_loss, waited = values.copy(), loss, 0
                continue
            waited += 1
            if waited >= config.patience:
                break
    solved = best if held.any() else values
    return solved[:-1], solved[-1]


def _batches(rows: IntArray, passes: int, rng: np.random.Generator) -> list[IntArray]:
    """Batches of some passes over the rows, each in its own order."""
    found: list[IntArray] = []
    for _ in range(passes):
        order = rng.permutation(rows)
        found += [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    return found


def _alpha(counts: IntArray, cap: float) -> NDArray[np.float64]:
    """Inverse frequency, capped against the most frequent class, mean 1 over classes seen."""
    present = counts > 0
    inverse = np.where(present, counts.max() / np.maximum(counts, 1), 0.0)
    inverse = np.minimum(inverse, cap)
    scaled: NDArray[np.float64] = inverse / inverse[present].mean()
    return scaled


def _held_out(targets: IntArray, counts: IntArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of a stratified tenth; a class with one label stays in training whole."""
    held = np.zeros(len(targets), dtype=bool)
    for number in np.flatnonzero(counts >= 2):
        members = rng.permutation(np.flatnonzero(targets == number))
        held[members[: max(1, round(_HOLD_OUT * len(members)))]] = True
    return held
