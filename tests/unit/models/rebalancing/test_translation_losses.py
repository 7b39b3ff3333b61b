"""The losses of joint generation and classification, against METHODS section 13."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from models.errors import ShapeError
from models.rebalancing.translation_losses import (
    Form,
    class_loss,
    class_term,
    cycle_loss,
    discriminator_loss,
    generator_loss,
    identity_loss,
    joint_class_loss,
    log_odds,
)

MAJORITY, MINORITY = 0, 1


def test_an_undecided_discriminator_costs_two_ln_two() -> None:
    scores = torch.zeros(2, 1, 3, 3)
    assert float(discriminator_loss(scores, scores, "log")) == pytest.approx(2 * math.log(2))


def test_an_undecided_discriminator_costs_a_half_by_least_squares() -> None:
    scores = torch.full((2, 1, 3, 3), 0.5)
    assert float(discriminator_loss(scores, scores, "least_squares")) == pytest.approx(0.5)


@pytest.mark.parametrize(("form", "yes", "no"), [("log", 40.0, -40.0), ("least_squares", 1.0, 0.0)])
def test_a_perfect_discriminator_costs_nothing_and_fools_no_generator(
    form: Form, yes: float, no: float
) -> None:
    real, translated = torch.full((4,), yes), torch.full((4,), no)
    assert float(discriminator_loss(real, translated, form)) == pytest.approx(0.0, abs=1e-6)
    assert float(generator_loss(real, form)) == pytest.approx(0.0, abs=1e-6)
    assert float(generator_loss(translated, form)) >= 1


def test_log_losses_stay_finite_where_sigmoid_is_0() -> None:
    scores = torch.tensor([-500.0], requires_grad=True)
    loss = generator_loss(scores, "log")
    (slope,) = torch.autograd.grad(loss, scores)
    assert float(loss.detach()) == pytest.approx(500)
    assert float(slope) == pytest.approx(-1), "non-saturating: a failing generator is pushed"


def test_identity_generators_have_no_cycle_and_no_identity_loss() -> None:
    a, b = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    assert float(cycle_loss(a, a)) == 0
    assert float(identity_loss(a, a, b, b)) == 0


def test_norms_are_means_over_pixels() -> None:
    a, b = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    assert float(cycle_loss(a, a + 0.25)) == pytest.approx(0.25)
    assert float(identity_loss(a, a + 0.25, b, b - 0.5)) == pytest.approx(0.75)


def test_identity_generators_leave_the_classifiers_own_terms() -> None:
    """L_cls^B = -E ln z(b) - E ln z(a), L_cls^A = -E ln(1 - z(a)) - E ln(1 - z(b))."""
    torch.manual_seed(0)
    of_a, of_b = torch.randn(5, 2).double(), torch.randn(7, 2).double()
    z_a, z_b = (logits.softmax(dim=1)[:, MINORITY] for logits in (of_a, of_b))
    minority = -z_b.log().mean() - z_a.log().mean()
    majority = -(1 - z_a).log().mean() - (1 - z_b).log().mean()
    torch.testing.assert_close(class_loss(of_b, of_a, MINORITY), minority)
    torch.testing.assert_close(class_loss(of_a, of_b, MAJORITY), majority)


@pytest.mark.parametrize("gamma", [1.0, 4.0, 100.0])
def test_an_undecided_classifier(gamma: float) -> None:
    logits = torch.zeros(3, 2)
    minority, majority = (class_loss(logits, logits, label) for label in (MINORITY, MAJORITY))
    assert float(minority) == pytest.approx(1.38629, abs=1e-5)
    assert float(majority) == pytest.approx(1.38629, abs=1e-5)
    both = float(joint_class_loss(minority, majority, gamma))
    assert both == pytest.approx(1.38629 * (1 + 1 / gamma), abs=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_a_term_is_the_cross_entropy(classes: int) -> None:
    torch.manual_seed(1)
    logits = 5 * torch.randn(6, classes, dtype=torch.float64)
    for label in range(classes):
        expected = F.cross_entropy(logits, torch.full((6,), label))
        torch.testing.assert_close(class_term(logits, label), expected)


def test_the_log_odds_of_two_classes_are_the_difference() -> None:
    logits = torch.tensor([[1.0, 3.0], [800.0, -800.0]])
    assert log_odds(logits, MINORITY).tolist() == [2.0, -1600.0]
    assert log_odds(logits, MAJORITY).tolist() == [-2.0, 1600.0]


def test_terms_of_sure_classifiers_are_finite() -> None:
    logits = torch.tensor([[300.0, 0.0, -300.0]], requires_grad=True)
    for label, expected in ((0, 0.0), (2, 600.0)):
        loss = class_term(logits, label)
        (slope,) = torch.autograd.grad(loss, logits)
        assert float(loss.detach()) == pytest.approx(expected)
        assert slope.isfinite().all()


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_class_alone_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="K >= 2"):
        log_odds(torch.zeros(shape), 0)
