"""Priors in the loss, and priors taken off after it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from models.errors import ConfigError
from models.networks.cosine_head import CosineLinear
from models.rebalancing.logit_adjustment import BalancedSoftmax, LogitAdjusted
from models.rebalancing.prior_scaling import PriorScaling, prior_correction
from tests.unit.models.rebalancing.small_runs import TinyNet, begun

COUNTS = torch.tensor([100, 400, 500])


# In the loss ------------------------------------------------------------------------------------


def test_balanced_softmax_by_hand() -> None:
    balanced = BalancedSoftmax()
    begun(balanced, (1, 3))
    # exp(0) * 1 against exp(0) * 3.
    loss = balanced.make_criterion(0)(torch.zeros(1, 2), torch.tensor([0]))
    assert float(loss) == pytest.approx(math.log(4))


def test_the_logits_need_no_prior_any_more() -> None:
    """At the minimum on one point the logits are those of equal priors."""
    adjusted = LogitAdjusted()
    begun(adjusted, (10, 30))
    logits = torch.zeros(1, 2, requires_grad=True)
    targets = torch.tensor([0] * 10 + [1] * 30)
    optimiser = torch.optim.LBFGS([logits], max_iter=50)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss: Tensor = adjusted.make_criterion(0)(logits.expand(40, 2), targets)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert torch.softmax(logits.detach(), dim=1).tolist()[0] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_the_two_names_agree_at_tau_one() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(8, 3), torch.randint(0, 3, (8,))
    values = [
        begun(s, COUNTS).make_criterion(0)(logits, targets)
        for s in (BalancedSoftmax(), LogitAdjusted(tau=1.0))
    ]
    assert torch.equal(*values)


@pytest.mark.parametrize(("tau", "counts"), [(0.0, (100, 400, 500)), (1.0, (6, 6, 6))])
def test_no_strength_and_equal_counts_are_cross_entropy(
    tau: float, counts: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(8, 3), torch.randint(0, 3, (8,))
    loss = begun(LogitAdjusted(tau=tau), counts).make_criterion(0)(logits, targets)
    assert torch.equal(loss, F.cross_entropy(logits, targets))


def test_a_class_without_labels_stays_finite_and_is_pushed_down() -> None:
    logits = torch.zeros(4, 3, requires_grad=True)
    loss = begun(BalancedSoftmax(), (9, 3, 0)).make_criterion(0)(logits, torch.tensor([0, 0, 0, 1]))
    loss.backward()
    assert logits.grad is not None
    assert loss.isfinite()
    assert (logits.grad[:, 2] > 0).all()


def test_gradcheck() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 1, 0])
    criterion = begun(LogitAdjusted(tau=1.5), COUNTS).make_criterion(0)
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), (logits,))


@pytest.mark.parametrize("tau", [-1.0, float("nan"), float("inf")])
def test_a_tau_that_cannot_be_is_refused(tau: float) -> None:
    for make in (LogitAdjusted, PriorScaling):
        with pytest.raises(ConfigError, match="tau"):
            make(tau=tau)


# After the training -----------------------------------------------------------------------------


def _scaled(p: Tensor, counts: Tensor, tau: float = 1.0) -> Tensor:
    return torch.softmax(p.double().log() + prior_correction(counts, tau), dim=-1)


def test_the_published_example() -> None:
    p = torch.tensor([0.2, 0.2, 0.6])
    quotients = torch.tensor([2.0, 0.5, 1.2])
    scaled = _scaled(p, COUNTS)
    assert scaled.tolist() == pytest.approx((quotients / quotients.sum()).tolist())
    assert (int(p.argmax()), int(scaled.argmax())) == (2, 0)


@given(st.floats(0.001, 0.999), st.integers(1, 500), st.integers(1, 500))
def test_of_two_classes_the_second_wins_where_it_is_likelier_than_its_prior(
    p: float, first: int, second: int
) -> None:
    prior = second / (first + second)
    scaled = _scaled(torch.tensor([1 - p, p], dtype=torch.float64), torch.tensor([first, second]))
    if abs(p - prior) > 1e-6:
        assert bool(scaled[1] > scaled[0]) == (p > prior)


def test_equal_counts_and_tau_zero_change_nothing() -> None:
    assert prior_correction(torch.tensor([8, 8, 8])).tolist() == [0.0] * 3
    assert prior_correction(COUNTS, tau=0.0).abs().tolist() == [0.0] * 3


def test_a_class_without_labels_gains_on_none() -> None:
    correction = prior_correction(torch.tensor([100, 400, 0]))
    assert correction.isfinite().all()
    assert correction[2] == correction[1] == correction.min()


def test_finish_folds_it_into_the_bias() -> None:
    torch.manual_seed(0)
    network, x = TinyNet(3).eval(), torch.rand(5, 3, 8, 8)
    scaling = PriorScaling(tau=0.7)
    assert scaling.prepare_network(network) is network
    begun(scaling, COUNTS)
    before = network(x).detach()
    scaling.finish(network)
    expected = before - 0.7 * (COUNTS / 1000).log()
    after = network(x).detach()
    assert torch.allclose(torch.softmax(after, dim=1), torch.softmax(expected, dim=1), atol=1e-6)
    assert network.classifier.bias.requires_grad


@pytest.mark.parametrize("head", [nn.Linear(4, 3, bias=False), CosineLinear(4, 3)])
def test_a_head_without_bias_is_refused_before_the_training(head: nn.Module) -> None:
    with pytest.raises(ConfigError, match="no bias"):
        PriorScaling().prepare_network(head)
