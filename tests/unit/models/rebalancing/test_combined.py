from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ConfigError
from models.networks.cosine_head import CosineLinear
from models.rebalancing import Combined, make_strategy
from models.rebalancing.base import Batch, Strategy
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.combined import difficulty_class_balanced, m2m_ldam
from models.rebalancing.deferred import Drs
from models.rebalancing.difficulty import Difficulty
from models.rebalancing.erm import Erm
from models.rebalancing.focal import Focal
from models.rebalancing.ldam import Ldam
from models.rebalancing.m2m import M2m
from models.rebalancing.prior_scaling import PriorScaling
from models.rebalancing.resample import Resample
from models.rebalancing.reweight import Reweight
from models.rebalancing.smote import Smote
from tests.unit.models.rebalancing.small_runs import SKEWED, begun, task_of


class Adds(Strategy):
    """Adds a number to whatever passes through it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = 0

    def prepare_examples(
        self, inputs: Tensor, targets: Tensor, *, classes: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        return inputs * 10 + self.number, targets

    def transform_batch(self, batch: Batch, network: nn.Module) -> Batch:
        return Batch(batch.inputs * 10 + self.number, batch.targets, batch.rows, batch.epoch)

    def auxiliary_step(self, batch: Batch, network: nn.Module) -> None:
        self.seen += int(batch.inputs.sum())

    def state_dict(self) -> dict[str, Tensor]:
        return {"seen": torch.tensor(self.seen)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.seen = int(state["seen"])


def test_hooks_follow_each_other_in_order() -> None:
    one, two = Adds(1), Adds(2)
    both = Combined(one, two)
    inputs, _ = both.prepare_examples(torch.zeros(1), torch.zeros(1), classes=2, seed=0)
    assert inputs.tolist() == [12]
    batch = Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1), 0)
    network = nn.Linear(1, 1)
    batch = both.transform_batch(batch, network)
    assert batch.inputs.tolist() == [12]
    both.auxiliary_step(batch, network)
    assert (one.seen, two.seen) == (12, 12)


def test_each_part_has_its_own_state() -> None:
    one, two = Adds(1), Adds(2)
    one.seen, two.seen = 5, 6
    state = Combined(one, two).state_dict()
    assert {name: int(value) for name, value in state.items()} == {"0.seen": 5, "1.seen": 6}
    again = Combined(Adds(1), Adds(2))
    again.load_state_dict(state)
    assert [part.seen for part in again.parts if isinstance(part, Adds)] == [5, 6]


def test_the_sampler_is_that_of_the_part_that_has_one() -> None:
    both = Combined(Focal(), Drs(deferred=0.5))
    begun(both, SKEWED, epochs=4)
    assert both.make_sampler(1) is None
    weights = both.make_sampler(2)
    assert weights is not None
    assert len(weights) == sum(SKEWED)
    assert Combined(Erm(), Focal()).make_sampler(0) is None
    assert both.mature_epoch() == 2


def test_the_loss_is_that_of_the_last_part_that_has_one() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    for parts, expected in (
        ((Focal(), Reweight(), Resample()), Reweight()),
        ((Reweight(), Focal()), Focal()),
        ((Resample(), Smote()), Erm()),
    ):
        both = Combined(*parts)
        begun(both, SKEWED)
        loss = begun(expected, SKEWED).make_criterion(0)(logits, targets)
        assert torch.equal(both.make_criterion(0)(logits, targets), loss)


def test_probabilities_go_to_those_who_need_them() -> None:
    class Watches(Strategy):
        told: Tensor | None = torch.zeros(1)

        def on_epoch_end(self, epoch: int, probabilities: Tensor | None) -> None:
            self.told = probabilities

    watches, difficulty = Watches(), Difficulty()
    both = Combined(watches, difficulty)
    assert both.needs_probabilities
    both.begin(task_of((2, 1)))
    both.on_epoch_end(0, torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.3, 0.7]]))
    assert watches.told is None
    assert float(difficulty.difficulties[0]) != 1
    assert set(both.diagnostics()) == set(difficulty.diagnostics())


def test_what_is_needed_and_balanced_is_that_of_any_part() -> None:
    assert not Combined(Erm(), Focal()).balances
    assert Combined(Erm(), Resample()).balances
    assert not Combined(Erm(), Resample()).needs_reference
    assert Combined(Erm(), M2m()).needs_reference
    assert not Combined(Erm()).needs_probabilities
    # The class itself is left as it was.
    assert Combined.balances
    assert not Combined.needs_reference


def test_two_that_choose_what_is_drawn_are_refused() -> None:
    with pytest.raises(ConfigError, match="Resample, Difficulty"):
        Combined(Resample(), Difficulty())
    with pytest.raises(ConfigError, match="Drs, M2m"):
        Combined(Drs(), M2m())


def test_a_combination_of_combinations_is_one() -> None:
    nested = Combined(Combined(Focal(), Smote()), Resample())
    assert [type(part) for part in nested.parts] == [Focal, Smote, Resample]
    with pytest.raises(ConfigError, match="choose what is drawn"):
        Combined(nested, Drs())


@pytest.mark.parametrize(
    "other", [Resample, Reweight, ClassBalanced, Smote, Ldam, Difficulty, Drs, M2m, PriorScaling]
)
def test_priors_are_not_taken_off_twice(other: type[Strategy]) -> None:
    for parts in ((PriorScaling(), other()), (other(), PriorScaling())):
        with pytest.raises(ConfigError, match="balances already"):
            Combined(*parts)


def test_priors_may_be_taken_off_a_plain_network() -> None:
    both = Combined(Focal(), PriorScaling())
    network = both.prepare_network(nn.Linear(6, 3))
    begun(both, SKEWED)
    before = network.bias.detach().clone()
    both.finish(network)
    assert not torch.equal(network.bias, before)
    assert both.balances


def test_nothing_to_combine_is_refused() -> None:
    with pytest.raises(ConfigError, match="no strategy"):
        Combined()


# The named ones ---------------------------------------------------------------------------------


def test_m2m_ldam_balances_once_and_scales_lambda() -> None:
    both = m2m_ldam(strength=0.6, scale=20.0)
    m2m, ldam = both.parts
    assert isinstance(m2m, M2m)
    assert isinstance(ldam, Ldam)
    assert m2m.strength == pytest.approx(0.03)
    head = both.prepare_network(nn.Linear(6, 3))
    assert isinstance(head, CosineLinear)
    reference = nn.Linear(6, 3).requires_grad_(False)
    both.begin(task_of(SKEWED, epochs=10, reference=reference))
    assert both.mature_epoch() == 8
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    # LDAM's weights stay off: the classes are drawn alike.
    early, late = (both.make_criterion(epoch)(logits, targets) for epoch in (0, 9))
    assert torch.equal(early, late)
    assert both.make_sampler(7) is None
    assert both.make_sampler(8) is not None


def test_difficulty_class_balanced_draws_by_one_and_weighs_by_the_other() -> None:
    both = difficulty_class_balanced(beta=0.9)
    begun(both, (2, 1))
    both.on_epoch_end(0, torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]))
    assert both.make_sampler(1) is not None
    logits, targets = torch.zeros(3, 2), torch.tensor([0, 0, 1])
    balanced = begun(ClassBalanced(beta=0.9), (2, 1)).make_criterion(0)(logits, targets)
    assert torch.equal(both.make_criterion(0)(logits, targets), balanced)
    assert balanced != F.cross_entropy(logits, targets)


def test_options_reach_the_parts() -> None:
    strategy = make_strategy("difficulty_class_balanced", {"c": 10.0, "beta": 0.5})
    assert isinstance(strategy, Combined)
    difficulty, balanced = strategy.parts
    assert isinstance(difficulty, Difficulty)
    assert isinstance(balanced, ClassBalanced)
    assert (difficulty.c, balanced.beta) == (10.0, 0.5)
