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
from torch import Tensor

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
        """(N, D) features to (N, K) logits."""
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
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mean, scale = standardisation(features)
    dtype = torch.float64 if features.size <= _DOUBLE_UP_TO else torch.float32
    x = torch.from_numpy(np.asarray(features, dtype=np.float32)).to(dtype)
    x = (x - torch.from_numpy(mean).to(dtype)) / torch.from_numpy(scale).to(dtype)
    y = torch.from_numpy(np.asarray(targets, dtype=np.int64))
    if config.balanced:
        each = 1.0 / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        each = np.full(len(counts), 1.0 / len(targets))
    weights = torch.from_numpy(each).to(dtype)[y]  # (N,), summing to 1
    # One tensor (D + 1, K): the last row is the bias, which is not shrunk.
    parameters = torch.zeros(x.shape[1] + 1, len(counts), dtype=dtype)
    parameters.grad = torch.zeros_like(parameters)
    optimiser = torch.optim.LBFGS(
        [parameters],
        max_iter=config.iterations,
        history_size=10,
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        loss, by_logits = focal_loss_and_gradient(
            torch.addmm(parameters[-1], x, parameters[:-1]), y, weights, gamma=config.gamma
        )
        gradient = parameters.grad
        assert gradient is not None  # set above, and L-BFGS never clears it
        torch.mm(x.T, by_logits, out=gradient[:-1])
        gradient[:-1].add_(parameters[:-1], alpha=config.l2)
        gradient[-1] = by_logits.sum(dim=0)
        return loss + 0.5 * config.l2 * parameters[:-1].square().sum()

    with torch.no_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call, unused-ignore]
    solved = parameters.double().numpy()
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
    generator = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(np.asarray(features, dtype=np.float32))
    y = torch.from_numpy(np.asarray(targets, dtype=np.int64))
    gamma = config.gamma if paper else 0.0
    alpha = torch.from_numpy(_alpha(counts, config.alpha_cap) if paper else np.ones(len(counts)))
    weights = alpha.float()[y]
    held = _held_out(targets, counts, generator) if paper else torch.zeros(len(y), dtype=torch.bool)
    rows = torch.nonzero(~held).squeeze(1)
    bound = 1 / math.sqrt(x.shape[1])  # the framework's own initialisation of a linear layer
    parameters = (torch.rand(x.shape[1] + 1, len(counts), generator=generator) * 2 - 1) * bound
    parameters.grad = torch.zeros_like(parameters)
    optimiser = torch.optim.Adam([parameters], lr=_LEARNING_RATE)
    best, best_loss, waited = parameters.clone(), math.inf, 0
    per_epoch = math.ceil(len(rows) / _BATCH)
    rounds = math.ceil(config.min_steps / (per_epoch * config.epochs))
    with torch.no_grad():
        for _ in range(config.epochs):
            for batch in _batches(rows, max(1, rounds), generator):
                logits = torch.addmm(parameters[-1], x[batch], parameters[:-1])
                _, by_logits = focal_loss_and_gradient(
                    logits, y[batch], weights[batch] / len(batch), gamma=gamma
                )
                parameters.grad[:-1] = x[batch].T @ by_logits
                parameters.grad[-1] = by_logits.sum(dim=0)
                optimiser.step()
            if not held.any():
                best = parameters.clone()
                continue
            logits = torch.addmm(parameters[-1], x[held], parameters[:-1])
            loss = float(focal_loss_and_gradient(logits, y[held], weights[held], gamma=gamma)[0])
            if loss < best_loss:
                best, best_loss, waited = parameters.clone(), loss, 0
            else:
                waited += 1
                if waited >= config.patience:
                    break
    solved = best.numpy()
    return solved[:-1], solved[-1]


def _batches(rows: Tensor, rounds: int, generator: torch.Generator) -> list[Tensor]:
    """Batches of ``rounds`` passes over the rows, each in its own order."""
    found: list[Tensor] = []
    for _ in range(rounds):
        found += torch.split(rows[torch.randperm(len(rows), generator=generator)], _BATCH)
    return found


def _alpha(counts: IntArray, cap: float) -> NDArray[np.float64]:
    """Inverse frequency, capped against the most frequent class, mean 1 over classes seen."""
    present = counts > 0
    inverse = np.where(present, counts.max() / np.maximum(counts, 1), 0.0)
    inverse = np.minimum(inverse, cap)
    scaled: NDArray[np.float64] = inverse / inverse[present].mean()
    return scaled


def _held_out(targets: IntArray, counts: IntArray, generator: torch.Generator) -> Tensor:
    """Mask of a stratified tenth; a class with one label stays in training whole."""
    held = torch.zeros(len(targets), dtype=torch.bool)
    for number in np.flatnonzero(counts >= 2):
        members = torch.from_numpy(np.flatnonzero(targets == number))
        size = max(1, round(_HOLD_OUT * len(members)))
        held[members[torch.randperm(len(members), generator=generator)[:size]]] = True
    return held
