from __future__ import annotations

import numpy as np
import pytest
import torch

from models.config import RecalibrationConfig
from models.lbfgs import Point, minimise
from models.losses import focal_loss
from models.recalibration import RecalibrationLayer, standardise


def _same(point: Point) -> Point:
    return point


def test_a_badly_scaled_quadratic() -> None:
    scales = np.logspace(0, 4, 30)
    target = np.linspace(-1, 1, 30)
    calls = []

    def function(point: Point) -> tuple[float, Point]:
        calls.append(1)
        return 0.5 * float((scales * (point - target) ** 2).sum()), scales * (point - target)

    found = minimise(
        function, np.zeros(30), precondition=lambda g: g / scales, iterations=50, tolerance=1e-8
    )
    np.testing.assert_allclose(found, target, atol=1e-8)
    preconditioned = len(calls)
    minimise(function, np.zeros(30), precondition=_same, iterations=500, tolerance=1e-8)
    assert preconditioned < (len(calls) - preconditioned) / 5


def test_a_valley_that_is_not_convex() -> None:
    def function(point: Point) -> tuple[float, Point]:
        x, y = point
        value = (1 - x) ** 2 + 100 * (y - x**2) ** 2
        slope = np.asarray([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])
        return float(value), slope

    found = minimise(
        function, np.asarray([-1.2, 1.0]), precondition=_same, iterations=200, tolerance=1e-7
    )
    np.testing.assert_allclose(found, [1, 1], atol=1e-5)


def test_it_stops_where_it_starts_if_that_is_the_bottom() -> None:
    found = minimise(
        lambda point: (0.0, np.zeros_like(point)),
        np.ones(3),
        precondition=_same,
        iterations=5,
    )
    assert found.tolist() == [1, 1, 1]


@pytest.mark.parametrize(("gamma", "balanced", "l2"), [(2.0, True, 0.1), (0.0, False, 0.01)])
@pytest.mark.parametrize("count", [90, 9000])
def test_the_layer_is_where_torch_finds_no_slope(
    gamma: float, balanced: bool, l2: float, count: int
) -> None:
    """Both precisions, against the objective as torch and its gradients have it."""
    rng = np.random.default_rng(0)
    targets = rng.choice(4, count, p=[0.05, 0.15, 0.4, 0.4])
    targets[:4] = range(4)
    features = rng.normal(size=(count, 40)) @ rng.normal(size=(40, 40))
    features[:, :4] += 4 * np.eye(4)[targets]
    config = RecalibrationConfig(gamma=gamma, balanced=balanced, l2=l2)
    layer = RecalibrationLayer.fit(
        features.astype(np.float16), targets, num_classes=4, config=config
    )
    x, mean, scale = standardise(features.astype(np.float16), torch.float64)
    start = np.vstack([layer.weight * scale[:, None], layer.bias + mean @ layer.weight])
    values = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    counts = np.bincount(targets)
    each = 1 / (4 * counts) if balanced else np.full(4, 1 / count)
    logits = x @ values[:-1] + values[-1]
    alpha = torch.from_numpy(each * count)
    loss = focal_loss(logits, torch.from_numpy(targets), gamma=gamma, alpha=alpha)
    loss = loss + 0.5 * l2 * (values[:-1] ** 2).sum()
    (slope,) = torch.autograd.grad(loss, values)
    assert float(slope.abs().max()) < 1e-4
