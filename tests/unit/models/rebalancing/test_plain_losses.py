"""``erm`` and ``focal``, which know nothing of counts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy import float64, int64
from numpy.typing import NDArray

from models.errors import ConfigError
from models.rebalancing.erm import Erm
from models.rebalancing.focal import Focal

LOGITS = arrays(float64, (6, 4), elements=st.floats(-30, 30))
TARGETS = arrays(int64, 6, elements=st.integers(0, 3))


def _focal(p: float, gamma: float) -> float:
    logits = torch.tensor([[math.log(p), math.log(1 - p)]], dtype=torch.float64)
    return float(Focal(gamma=gamma).make_criterion(0)(logits, torch.tensor([0])))


def test_values_by_hand() -> None:
    assert _focal(0.5, 2) == pytest.approx(0.17329, abs=5e-6)
    assert _focal(0.9, 2) == pytest.approx(0.0010536, abs=5e-8)
    assert _focal(0.5, 1) == pytest.approx(0.5 * math.log(2))


def test_each_example_has_its_own_modulator() -> None:
    """The mean of the examples' losses, not the modulator of their mean."""
    logits = torch.tensor([[0.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([0, 0])
    criterion = Focal(gamma=2).make_criterion(0)
    alone = [float(criterion(logits[i : i + 1], targets[:1])) for i in (0, 1)]
    assert float(criterion(logits, targets)) == pytest.approx(sum(alone) / 2)


@given(LOGITS, TARGETS)
def test_gamma_zero_and_erm_are_cross_entropy(z: NDArray[float64], y: NDArray[int64]) -> None:
    logits, targets = torch.from_numpy(z), torch.from_numpy(y)
    plain = float(F.cross_entropy(logits, targets))
    for strategy in (Focal(gamma=0), Erm()):
        value = float(strategy.make_criterion(0)(logits, targets))
        assert value == pytest.approx(plain, abs=1e-9)


@given(LOGITS, TARGETS, st.floats(0, 5))
def test_never_above_cross_entropy(z: NDArray[float64], y: NDArray[int64], gamma: float) -> None:
    logits, targets = torch.from_numpy(z), torch.from_numpy(y)
    value = float(Focal(gamma=gamma).make_criterion(0)(logits, targets))
    assert -1e-12 <= value <= float(F.cross_entropy(logits, targets)) + 1e-9


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_gradcheck(gamma: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 1, 0])
    criterion = Focal(gamma=gamma).make_criterion(0)
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), (logits,))


def test_certainty_has_a_finite_gradient_at_gamma_below_one() -> None:
    logits = torch.tensor([[90.0, 0.0]], requires_grad=True)
    Focal(gamma=0.5).make_criterion(0)(logits, torch.tensor([0])).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_neither_balances() -> None:
    assert not Erm().balances
    assert not Focal().balances


@pytest.mark.parametrize("gamma", [-1.0, float("nan"), float("inf")])
def test_a_gamma_that_cannot_be_is_refused(gamma: float) -> None:
    with pytest.raises(ConfigError, match="gamma"):
        Focal(gamma=gamma)
