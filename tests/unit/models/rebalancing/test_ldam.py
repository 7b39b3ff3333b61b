from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.errors import ConfigError
from models.networks import ResNet32
from models.networks.cosine_head import CosineLinear, last_linear, replace_last_linear
from models.rebalancing.class_weights import effective_weights
from models.rebalancing.ldam import Ldam, margins
from tests.unit.models.rebalancing.small_runs import LONG_TAIL, TinyNet, begun

# METHODS section 10, three places.
MARGINS = [0.158, 0.180, 0.204, 0.232, 0.264, 0.300, 0.341, 0.387, 0.441, 0.5]


def test_reference_margins() -> None:
    assert margins(LONG_TAIL, 0.5).tolist() == pytest.approx(MARGINS, abs=6e-4)


def test_sixteen_times_rarer_is_twice_the_margin() -> None:
    rare, common = margins(torch.tensor([10, 160]), 0.5).tolist()
    assert (rare, common) == pytest.approx((0.5, 0.25))


def test_equal_counts_have_the_largest_margin_not_none() -> None:
    assert margins(torch.tensor([7, 7, 7]), 0.5).tolist() == pytest.approx([0.5] * 3)


def test_a_class_without_labels_counts_as_one() -> None:
    empty, single = (margins(torch.tensor([16, n]), 0.5).tolist() for n in (0, 1))
    assert empty == single == pytest.approx([0.25, 0.5])


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=12).map(torch.tensor))
def test_margins_lie_within_the_largest_and_fall_with_the_count(counts: torch.Tensor) -> None:
    found = margins(counts, 0.5)
    assert (found > 0).all()
    assert float(found.max()) == pytest.approx(0.5)
    assert (found[counts.argsort()].diff() <= 1e-12).all()


# The loss ---------------------------------------------------------------------------------------


def test_the_margin_is_taken_off_the_cosine_of_the_label() -> None:
    ldam = Ldam()
    begun(ldam, (16, 1))
    cosines = torch.tensor([[0.3, -0.2], [0.1, 0.6]], dtype=torch.float64)
    targets = torch.tensor([0, 1])
    # m = (.25, .5): by hand, ln(1 + exp(s (other - (own - m)))).
    by_hand = [
        math.log1p(math.exp(30 * (-0.2 - (0.3 - 0.25)))),
        math.log1p(math.exp(30 * (0.1 - (0.6 - 0.5)))),
    ]
    loss = float(ldam.make_criterion(0)(30 * cosines, targets))
    assert loss == pytest.approx(sum(by_hand) / 2, rel=1e-5)
    weights = effective_weights(torch.tensor([16, 1]), 0.9999)[targets].tolist()
    late = float(ldam.make_criterion(4)(30 * cosines, targets))
    expected = sum(w * x for w, x in zip(weights, by_hand, strict=True)) / 2
    assert late == pytest.approx(expected, rel=1e-5)


def test_without_margin_it_is_cross_entropy() -> None:
    ldam = Ldam(max_margin=0)
    begun(ldam, (16, 1))
    logits, targets = torch.randn(4, 2), torch.tensor([0, 1, 0, 0])
    plain = float(F.cross_entropy(logits, targets))
    assert float(ldam.make_criterion(0)(logits, targets)) == pytest.approx(plain)


def test_a_margin_never_makes_the_loss_smaller() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(20, 2), torch.randint(0, 2, (20,))
    ldam = Ldam()
    begun(ldam, (16, 1))
    assert ldam.make_criterion(0)(logits, targets) > F.cross_entropy(logits, targets)


@pytest.mark.parametrize("epoch", [0, 4])
def test_gradcheck(epoch: int) -> None:
    torch.manual_seed(0)
    ldam = Ldam()
    begun(ldam, (16, 4, 1))
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 1, 2, 1, 0])
    criterion = ldam.make_criterion(epoch)
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), (logits,))


@pytest.mark.parametrize(
    "options", [{"max_margin": -0.1}, {"scale": 0.0}, {"scale": float("nan")}, {"beta": 1.0}]
)
def test_options_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Ldam(**options)


# The head ---------------------------------------------------------------------------------------


def test_logits_are_scaled_cosines() -> None:
    torch.manual_seed(0)
    head, x = CosineLinear(5, 3), torch.randn(7, 5)
    expected = 30 * F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    assert torch.allclose(head(x), expected, atol=1e-4)
    assert head.bias is None
    assert torch.allclose(head.weight.norm(dim=1), torch.ones(3))


def test_lengths_do_not_count() -> None:
    torch.manual_seed(0)
    head, x = CosineLinear(5, 3, scale=8.0), torch.randn(7, 5)
    before = head(x).detach()
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[3.0], [0.1], [50.0]]))
    assert torch.allclose(head(100 * x), before, atol=1e-4)
    assert float(before.abs().max()) <= 8 + 1e-4


def test_a_feature_of_zeros_is_at_a_right_angle_to_all() -> None:
    assert CosineLinear(4, 3)(torch.zeros(2, 4)).tolist() == [[0.0] * 3] * 2


def test_it_is_exact_under_autocast() -> None:
    torch.manual_seed(0)
    head, x = CosineLinear(5, 3), torch.randn(7, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head(x)
    assert low.dtype == torch.float32
    assert torch.equal(low, head(x))


def test_gradcheck_of_the_head() -> None:
    torch.manual_seed(0)
    head = CosineLinear(4, 3).double()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(head, (x,))


def test_it_takes_the_place_of_the_last_linear_and_looks_where_that_looked() -> None:
    torch.manual_seed(0)
    network = TinyNet(3)
    old = network.classifier.weight.detach().clone()
    assert Ldam(scale=16.0).prepare_network(network) is network
    head = network.classifier
    assert isinstance(head, CosineLinear)
    assert head.scale == 16
    assert torch.allclose(head.weight, F.normalize(old))
    assert isinstance(network.trunk[1], nn.Linear)
    assert not isinstance(network.trunk[1], CosineLinear)
    assert set(head.state_dict()) == {"weight"}


def test_it_takes_the_place_of_a_nested_layer_and_of_a_bare_one() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    name, _ = last_linear(network)
    assert name == "1.1"
    Ldam().prepare_network(network)
    assert isinstance(network[1][1], CosineLinear)
    assert isinstance(Ldam().prepare_network(nn.Linear(4, 2)), CosineLinear)


def test_a_cosine_head_keeps_its_directions_when_it_is_put_in_again() -> None:
    once = Ldam().prepare_network(nn.Linear(4, 2))
    x = torch.randn(3, 4)
    assert torch.allclose(Ldam().prepare_network(once)(x), once(x), atol=1e-5)


def test_our_networks_have_a_head_that_can_be_replaced() -> None:
    network = ResNet32(5)
    replace_last_linear(network, CosineLinear.like)
    assert isinstance(network.classifier, CosineLinear)
    assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 5)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="no Linear layer"):
        Ldam().prepare_network(nn.Sequential(nn.Flatten()))
