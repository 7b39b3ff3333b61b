from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ConfigError, NotEnoughLabels
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.class_weights import (
    effective_numbers,
    effective_weights,
    inverse_weights,
    log_priors,
    weighted_cross_entropy,
)
from models.rebalancing.resample import Resample
from models.rebalancing.reweight import Reweight
from tests.unit.models.rebalancing.small_runs import LONG_TAIL, begun, targets_of, task_of

# METHODS section 9, four places.
BETA_9999 = [0.0506, 0.0769, 0.1211, 0.195, 0.3188, 0.5246, 0.8683, 1.4426, 2.4092, 3.9927]
BETA_999 = [0.1812, 0.1894, 0.2157, 0.2729, 0.3785, 0.5606, 0.8688, 1.3862, 2.2584, 3.6883]
INVERSE = [0.0402, 0.0671, 0.112, 0.1868, 0.3119, 0.5199, 0.8672, 1.4474, 2.4239, 4.0236]
COUNTS = st.lists(st.integers(0, 10_000), min_size=1, max_size=20).filter(any).map(torch.tensor)


@pytest.mark.parametrize(("beta", "expected"), [(0.9999, BETA_9999), (0.999, BETA_999)])
def test_reference_values_of_effective_weights(beta: float, expected: list[float]) -> None:
    assert effective_weights(LONG_TAIL, beta).tolist() == pytest.approx(expected, abs=6e-5)


def test_reference_values_of_inverse_weights() -> None:
    assert inverse_weights(LONG_TAIL).tolist() == pytest.approx(INVERSE, abs=6e-5)


def test_the_strategies_have_these_weights() -> None:
    balanced, reweight = ClassBalanced(), Reweight()
    begun(balanced, LONG_TAIL)
    begun(reweight, LONG_TAIL)
    assert balanced.weights.tolist() == pytest.approx(BETA_9999, abs=6e-5)
    assert reweight.weights.tolist() == pytest.approx(INVERSE, abs=6e-5)


def test_effective_number_by_hand() -> None:
    # 1 + .9 + .81
    assert effective_numbers(torch.tensor([3, 1, 0]), 0.9).tolist() == pytest.approx([2.71, 1, 0])


def test_few_labels_and_beta_near_one_do_not_cancel() -> None:
    number = effective_numbers(torch.tensor([3]), 1 - 1e-12)
    assert float(number) == pytest.approx(3, rel=1e-4)


def test_beta_zero_weighs_all_alike() -> None:
    assert effective_weights(LONG_TAIL, 0.0).tolist() == [1.0] * 10


def test_beta_near_one_is_inverse_frequency() -> None:
    near = effective_weights(LONG_TAIL, 1 - 1e-10)
    assert near.tolist() == pytest.approx(inverse_weights(LONG_TAIL).tolist(), rel=1e-4)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.99, 0.999, 0.9999])
def test_equal_counts_weigh_one(beta: float) -> None:
    counts = torch.tensor([7, 7, 7])
    assert effective_weights(counts, beta).tolist() == pytest.approx([1.0] * 3)
    assert inverse_weights(counts).tolist() == pytest.approx([1.0] * 3)


def test_a_class_without_labels_weighs_nothing_and_the_others_have_mean_one() -> None:
    for weights in (
        effective_weights(torch.tensor([100, 0, 5]), 0.99),
        inverse_weights(torch.tensor([100, 0, 5])),
    ):
        assert weights[1] == 0
        assert float(weights.sum()) == pytest.approx(2)
        assert weights[2] > weights[0] > 0
    assert effective_weights(torch.tensor([4, 0, 4]), 0.99).tolist() == pytest.approx([1, 0, 1])


def test_one_label_has_the_largest_weight() -> None:
    weights = effective_weights(torch.tensor([1, 2, 1000]), 0.999)
    assert int(weights.argmax()) == 0
    assert float(effective_numbers(torch.tensor([1]), 0.999)) == pytest.approx(1)


def test_no_label_at_all_is_refused() -> None:
    with pytest.raises(NotEnoughLabels):
        inverse_weights(torch.zeros(3, dtype=torch.int64))


@pytest.mark.parametrize("beta", [-0.1, 1.0, 2.0, float("nan")])
def test_a_beta_that_cannot_be_is_refused(beta: float) -> None:
    with pytest.raises(ConfigError, match="beta"):
        effective_numbers(LONG_TAIL, beta)
    with pytest.raises(ConfigError, match="beta"):
        ClassBalanced(beta=beta)
    with pytest.raises(ConfigError, match="beta"):
        Resample(beta=beta)


@given(COUNTS, st.sampled_from([0.0, 0.9, 0.99, 0.999, 0.9999]))
def test_weights_are_finite_sum_to_the_classes_present_and_fall_with_the_count(
    counts: torch.Tensor, beta: float
) -> None:
    for weights in (effective_weights(counts, beta), inverse_weights(counts)):
        assert weights.isfinite().all()
        assert float(weights.sum()) == pytest.approx(int((counts > 0).sum()))
        present = counts > 0
        by_count = weights[present][counts[present].argsort()]
        assert (by_count.diff() <= 1e-9).all()


@given(COUNTS, st.integers(1, 50))
def test_log_priors_are_finite_and_ignore_scale_but_for_empty_classes(
    counts: torch.Tensor, scale: int
) -> None:
    assert log_priors(counts).isfinite().all()
    full = counts.clamp_min(1)
    assert torch.allclose(log_priors(full * scale), log_priors(full))
    assert float(log_priors(full).exp().mean()) == pytest.approx(1)


# The loss ---------------------------------------------------------------------------------------


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits = torch.randn(9, 3, dtype=torch.float64)
    return logits, torch.tensor([0, 0, 0, 0, 1, 1, 2, 0, 1]), torch.tensor([0.2, 0.8, 2.0])


def test_the_loss_is_the_mean_over_the_batch() -> None:
    logits, targets, weights = _batch()
    ours = weighted_cross_entropy(weights)(logits, targets)
    each = F.cross_entropy(logits, targets, reduction="none")
    assert float(ours) == pytest.approx(float((weights[targets] * each).mean()))


def test_torch_divides_by_the_sum_of_the_batchs_weights_instead() -> None:
    logits, targets, weights = _batch()
    ours = float(weighted_cross_entropy(weights)(logits, targets))
    torchs = float(F.cross_entropy(logits, targets, weight=weights.double()))
    assert ours != pytest.approx(torchs, rel=0.01)
    assert ours * 9 / float(weights[targets].sum()) == pytest.approx(torchs)


def test_weights_of_one_are_cross_entropy() -> None:
    logits, targets, _ = _batch()
    plain = float(F.cross_entropy(logits, targets))
    assert float(weighted_cross_entropy(torch.ones(3))(logits, targets)) == pytest.approx(plain)


def test_gradcheck() -> None:
    logits, targets, weights = _batch()
    criterion = weighted_cross_entropy(weights)
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), (logits.requires_grad_(),))


# The sampler ------------------------------------------------------------------------------------


def test_resampling_gives_each_class_the_same_chance() -> None:
    resample = Resample()
    task = task_of((24, 9, 3, 0))
    resample.begin(task)
    weights = resample.make_sampler(0)
    assert weights is not None
    shares = torch.zeros(4, dtype=torch.float64).index_add(0, task.targets, weights / weights.sum())
    assert shares.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])


def test_an_epoch_draws_the_promised_frequencies() -> None:
    resample = Resample()
    begun(resample, (400, 40, 4))
    weights = resample.make_sampler(0)
    assert weights is not None
    torch.manual_seed(0)
    drawn = targets_of((400, 40, 4))[torch.multinomial(weights, 9000, replacement=True)]
    expected = 3000.0
    chi_square = float(((torch.bincount(drawn) - expected) ** 2 / expected).sum())
    assert chi_square < 13.8  # .999 quantile with two degrees of freedom


def test_resampling_by_effective_number() -> None:
    resample = Resample(beta=0.9)
    task = task_of((100, 10, 1))
    resample.begin(task)
    numbers = effective_numbers(torch.tensor([100, 10, 1]), 0.9)
    first = {int(y): row for row, y in enumerate(task.targets)}
    ratio = resample.weights[first[2]] / resample.weights[first[0]]
    assert float(ratio) == pytest.approx(float(numbers[0] / numbers[2]))
