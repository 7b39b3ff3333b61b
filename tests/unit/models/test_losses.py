from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from models.errors import ConfigError, ShapeError
from models.losses import focal_loss, focal_loss_and_gradient


def _logits_of(p: float) -> torch.Tensor:
    return torch.tensor([[math.log(p), math.log(1 - p)]], dtype=torch.float64)


def test_values_by_hand() -> None:
    target = torch.tensor([0])
    assert float(focal_loss(_logits_of(0.5), target)) == pytest.approx(0.25 * math.log(2))
    assert float(focal_loss(_logits_of(0.9), target)) == pytest.approx(0.0010536, rel=1e-4)


def test_alpha_is_applied_after_the_modulator() -> None:
    alpha = torch.tensor([3.0, 1.0], dtype=torch.float64)
    value = focal_loss(_logits_of(0.5), torch.tensor([0]), alpha=alpha)
    # Were alpha inside the exponent, this would be 3 * (1 - 1/8)^2 * ln 2.
    assert float(value) == pytest.approx(3 * 0.25 * math.log(2))


def test_two_classes_agree_with_the_sigmoid_form() -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(50, generator=generator, dtype=torch.float64)
    truth = torch.randint(0, 2, (50,), generator=generator)
    oracle = sigmoid_focal_loss(score, truth.double(), alpha=-1, gamma=2, reduction="mean")
    ours = focal_loss(torch.stack([torch.zeros(50), score], dim=1), truth)
    assert float(ours) == pytest.approx(float(oracle), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_autograd_and_the_closed_form_agree(gamma: float) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(12, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 4, (12,), generator=generator)
    alpha = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    loss = focal_loss(logits, targets, gamma=gamma, alpha=alpha)
    (gradient,) = torch.autograd.grad(loss, logits)
    value, closed = focal_loss_and_gradient(
        logits.detach().numpy(),
        targets.numpy(),
        alpha[targets].numpy() / 12,
        gamma=gamma,
    )
    assert value == pytest.approx(float(loss.detach()))
    np.testing.assert_allclose(closed, gradient.numpy(), atol=1e-9)


def test_gradcheck() -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 1, 0])
    assert torch.autograd.gradcheck(lambda z: focal_loss(z, targets), (logits,))


def test_certain_examples_have_finite_gradients() -> None:
    logits = torch.tensor([[80.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(focal_loss(logits, torch.tensor([0]), gamma=0.5), logits)
    assert torch.isfinite(gradient).all()


def test_misfits_are_refused() -> None:
    with pytest.raises(ShapeError):
        focal_loss(torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ShapeError):
        focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), alpha=torch.ones(2))
    with pytest.raises(ConfigError):
        focal_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), gamma=-1)


def test_gamma_zero_is_cross_entropy() -> None:
    logits = torch.randn(9, 5)
    targets = torch.arange(9) % 5
    plain = F.cross_entropy(logits, targets)
    assert float(focal_loss(logits, targets, gamma=0)) == pytest.approx(float(plain), abs=1e-6)
