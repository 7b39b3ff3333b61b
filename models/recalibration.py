"""The re-calibration layer: a fresh last layer on frozen features, so that the tail speaks.

Three forms (METHODS section 2 and section 19 item 2). Ours is regularised and convex but for the
focal factor: standardised features, classes weighed alike, L2, full-batch L-BFGS, no hold-out.
The paper's is trained briefly by Adam with early stopping; the released code's by cross-entropy
for a fixed number of epochs.
Source: Singh et al. 2021, arXiv:2112.07835, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import RecalibrationConfig
from models.errors import NotEnoughLabels, ShapeError
from models.lbfgs import Point, minimise
from models.losses import focal_loss_and_gradient
from models.streaming import Stacked, batch_rows, feature_batches
from models.types import Examples, FloatArray, IntArray, numbered

_LEARNING_RATE, _BATCH, _HOLD_OUT = 1e-3, 64, 0.1  # the released code's, and ours for the last
_DOUBLE_UP_TO = 250_000  # entries of the feature matrix; more are computed in float32
_CURVATURE = 0.25  # of softmax, at most: the bound of Böhning 1992, twice the mean over classes
_CURVATURE_ROWS = 4096  # from which correlations of features are estimated


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

        Raises: ShapeError: if D is not what the layer was fitted on, or features are not finite.
        """
        return self.logits_of(numbered(features))

    def logits_of(self, examples: Examples) -> NDArray[np.float32]:
        """(N, K) logits of examples.

        Raises: ShapeError: if D is not what the layer was fitted on, or features are not finite.
        """
        out: NDArray[np.float32] = np.empty((len(examples), len(self.bias)), dtype=np.float32)
        for start, (logits,) in Stacked([self]).batches(examples):
            out[start : start + logits.shape[1]] = logits.T.numpy()
        return out

    def state(self) -> dict[str, NDArray[np.float32]]:
        """What must be stored."""
        return {"weight": self.weight, "bias": self.bias}

    @classmethod
    def from_state(cls, state: Mapping[str, FloatArray]) -> RecalibrationLayer:
        """The layer that ``state`` came from."""
        return cls(state["weight"], state["bias"])


def standardise(
    features: FloatArray, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]:
    """Features less their mean over their scale: (N, D), and both, (D,) each.

    A feature that hardly varies is not blown up.
    """
    x = torch.empty(features.shape, dtype=dtype)
    rows = batch_rows(features.shape[1])
    sums = torch.zeros(features.shape[1], dtype=torch.float64)
    for start, batch in feature_batches(numbered(features), rows):
        x[start : start + len(batch)] = batch
        sums += batch.sum(dim=0)
    mean = sums / len(x)
    squares = torch.zeros_like(sums)
    for batch in torch.split(x, rows):
        batch -= mean
        squares += (batch * batch).sum(dim=0)
    scale = (squares / len(x)).sqrt()
    # A unit that fires for one labeled image in a hundred must not decide for the pool.
    floor = 0.05 * math.sqrt(float((scale**2).mean()))
    scale = scale.clamp_min(floor) if floor > 0 else torch.ones_like(scale)
    for batch in torch.split(x, rows):
        batch /= scale
    return x, mean.numpy(), scale.numpy()


def _regularised(
    features: FloatArray, targets: IntArray, counts: IntArray, config: RecalibrationConfig
) -> tuple[FloatArray, FloatArray]:
    dtype = torch.float64 if features.size <= _DOUBLE_UP_TO else torch.float32
    x, mean, scale = standardise(features, dtype)
    solved, bias = solve(x, targets, counts, config)
    weight = solved / scale[:, None]
    return weight, bias - mean @ weight


def solve(
    x: Tensor, targets: IntArray, counts: IntArray, config: RecalibrationConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The regularised form's weight (M, K) and bias (K,) for inputs as they are.

    Args:
        x: (N, M), of a scale for which ``config.l2`` is meant: about unit variance.
        targets: (N,) in [0, K).
        counts: (K,) of each class.
        config: gamma, l2, weights of classes, iterations.
    """
    dtype = x.dtype
    if config.balanced:
        each = 1.0 / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        each = np.full(len(counts), 1.0 / len(targets))
    weights = each[targets].astype(torch.empty(0, dtype=dtype).numpy().dtype)  # (N,), sum 1
    # Products by torch only: NumPy's BLAS has threads of its own, and both wait by spinning.
    width, classes = x.shape[1], len(counts)
    turned = torch.empty((classes, width), dtype=dtype)
    scores = torch.empty((len(x), classes), dtype=dtype)

    def function(values: Point) -> tuple[float, Point]:
        """Loss and gradient; (D + 1, K), of which the last row is the bias, not shrunk."""
        turned.copy_(torch.from_numpy(values[:-1]).T)
        torch.mm(x, turned.T, out=scores)
        loss, by_logits = focal_loss_and_gradient(
            scores.numpy() + values[-1].astype(weights.dtype),
            targets,
            weights,
            gamma=config.gamma,
        )
        gradient = np.empty_like(values)
        gradient[:-1] = torch.mm(torch.from_numpy(by_logits).T, x).numpy().T
        gradient[:-1] += config.l2 * values[:-1]
        gradient[-1] = by_logits.sum(axis=0, dtype=np.float64)
        return loss + 0.5 * config.l2 * float((values[:-1] ** 2).sum()), gradient

    solved = minimise(
        function,
        np.zeros((width + 1, classes)),
        precondition=_inverse_curvature(x, targets, counts, weights, config.l2),
        iterations=config.iterations,
    )
    return solved[:-1], solved[-1]


def _inverse_curvature(
    x: Tensor, targets: IntArray, counts: IntArray, weights: FloatArray, l2: float
) -> Callable[[Point], Point]:
    """A gradient times the inverse of 0.25 X'WX + l2: about the loss's curvature for any class.

    Of large sets the correlations are taken from the first rows of each class, which then stand
    for the whole class. They decide how fast the optimum is found, not where it is.
    """
    most = max(8, _CURVATURE_ROWS // np.count_nonzero(counts))
    rank = np.empty(len(targets), dtype=np.int64)
    order = np.argsort(targets, kind="stable")
    rank[order] = np.arange(len(targets)) - np.repeat(np.cumsum(counts) - counts, counts)
    rows = np.flatnonzero(rank < most)
    share = counts[targets[rows]] / np.minimum(counts[targets[rows]], most)
    part = x[torch.from_numpy(rows)] if len(rows) < len(x) else x
    each = torch.from_numpy(weights[rows] * share).to(x.dtype)
    matrix = (_CURVATURE * (part * each[:, None]).T @ part).double()
    # Without shrinking, directions that no label tells apart would be unbounded.
    least = 1e-6 * float(matrix.diagonal().mean()) or 1.0
    matrix.diagonal().add_(max(l2, least))
    root, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        # Features far from 0 beside which nothing varies: sums in single precision are rounding.
        matrix.diagonal().add_(1e-3 * float(matrix.diagonal().max()))
        root = torch.linalg.cholesky(matrix)
    inverse = torch.cholesky_inverse(root)

    def times(gradient: Point) -> Point:
        found = np.empty_like(gradient)
        right = torch.from_numpy(np.ascontiguousarray(gradient[:-1]))
        found[:-1] = (inverse @ right).numpy()
        found[-1] = gradient[-1] / _CURVATURE
        return found

    return times


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
