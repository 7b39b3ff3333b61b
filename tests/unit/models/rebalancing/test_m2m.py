"""Major-to-minor translation: METHODS section 11, equation by equation."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from models.errors import ConfigError
from models.rebalancing import Batch, Task, make_strategy
from models.rebalancing.m2m import M2m, acceptance, default_beta
from tests.unit.models.rebalancing.small_runs import LONG_TAIL, TinyNet


def linear(weight: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    values = torch.tensor(weight)
    layer = nn.Linear(values.shape[1], values.shape[0]).requires_grad_(False)
    layer.weight.copy_(values)
    layer.bias.copy_(torch.tensor(bias or [0.0] * len(values)))
    return layer


def begun(
    strategy: M2m,
    counts: list[int],
    g: nn.Module,
    *,
    inputs: Tensor | None = None,
    low: float = 0.0,
    high: float = 1.0,
    epochs: int = 10,
) -> M2m:
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    strategy.begin(
        Task(
            inputs=torch.zeros(len(targets), 2) if inputs is None else inputs,
            targets=targets,
            class_names=tuple(f"class {k}" for k in range(len(counts))),
            epochs=epochs,
            batch=8,
            seed=0,
            device=torch.device("cpu"),
            run_dir=Path("/nowhere"),
            train_reference=lambda: g,
            low=low,
            high=high,
        )
    )
    return strategy


def last_epoch(inputs: Tensor, targets: Tensor, epoch: int = 9) -> Batch:
    return Batch(inputs, targets, torch.arange(len(targets)), epoch)


def test_acceptance_has_the_published_examples() -> None:
    chances = acceptance(LONG_TAIL, 0.999)
    assert pytest.approx(0.98999, abs=1e-5) == 1 - 0.999**4602
    expected = [0.993, 0.948, 0.826, 0.642, 0.449, 0.286, 0.167, 0.085, 0.033, 0.0]
    torch.testing.assert_close(
        chances[9], torch.tensor(expected, dtype=torch.float64), atol=1e-3, rtol=0
    )
    q = chances[9] / chances[9].sum()
    published = [0.224, 0.214, 0.187, 0.145, 0.101, 0.065, 0.038, 0.019, 0.007, 0.0]
    torch.testing.assert_close(q, torch.tensor(published, dtype=torch.float64), atol=1e-3, rtol=0)


def test_a_class_is_no_seed_for_itself_or_an_equal_or_a_larger_one() -> None:
    chances = acceptance(torch.tensor([10, 10, 4]), 0.9)
    assert chances.diagonal().tolist() == [0, 0, 0]
    assert chances[0, 1] == chances[1, 0] == 0
    assert chances[0, 2] == 0 < chances[2, 0]


def test_beta_zero_accepts_every_larger_class() -> None:
    assert acceptance(torch.tensor([9, 8, 1]), 0.0)[2].tolist() == [1, 1, 0]


def test_a_class_without_labels_is_neither_target_nor_seed() -> None:
    chances = acceptance(torch.tensor([9, 0, 3]), 0.9)
    assert chances[1].tolist() == chances[:, 1].tolist() == [0, 0, 0]


def test_the_default_beta_accepts_the_largest_for_the_smallest_with_99_percent() -> None:
    counts = torch.tensor([120, 40, 20])
    assert acceptance(counts, default_beta(counts))[2, 0] == pytest.approx(0.99)
    assert default_beta(torch.tensor([7, 7])) == 0.0


def test_three_quarters_of_a_balanced_batch_are_marked_at_rho_100() -> None:
    assert float((1 - LONG_TAIL / LONG_TAIL.max()).mean()) == pytest.approx(0.752, abs=5e-4)


def test_descent_against_a_linear_classifier_goes_straight() -> None:
    g = linear([[1.0, 0.0], [0.0, 2.0]])
    m2m = begun(
        M2m(strength=0, start="none", steps=10, step_size=0.1, gamma=0, deferred=0),
        [6, 2],
        g,
        low=-math.inf,
        high=math.inf,
    )
    x0 = torch.tensor([[0.3, -0.2], [1.0, 1.0]])
    wanted, old = torch.tensor([1, 1]), torch.tensor([0, 0])
    x, sure = m2m._translate(x0, wanted, old, g)
    along = (g.weight[1] - g.weight[0]) / (g.weight[1] - g.weight[0]).norm()
    torch.testing.assert_close(x, x0 + 10 * 0.1 * along)
    torch.testing.assert_close(sure, torch.softmax(g(x), 1)[:, 1])


def test_the_logit_of_the_old_class_pulls_too() -> None:
    g, f = linear([[1.0, 0.0], [1.0, 0.0]]), linear([[0.0, 3.0], [0.0, 0.0]])
    m2m = begun(M2m(strength=0.5, start="none", gamma=0, deferred=0), [6, 2], g, low=-9, high=9)
    x, _ = m2m._translate(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0]), f)
    # g says nothing here, so only f's logit of the old class is lowered.
    torch.testing.assert_close(x, torch.tensor([[0.0, -1.0]]))


def test_the_loss_never_rises_with_small_steps() -> None:
    torch.manual_seed(0)
    g, f = TinyNet(3).eval().requires_grad_(False), TinyNet(3).eval().requires_grad_(False)
    x0 = torch.rand(6, 3, 8, 8)
    wanted, old = torch.tensor([2, 2, 1, 2, 1, 2]), torch.tensor([0, 1, 0, 0, 0, 1])
    before = math.inf
    for steps in range(5):
        m2m = begun(
            M2m(steps=steps, step_size=1e-3, start="none", strength=0.5, deferred=0), [9, 5, 2], g
        )
        x, _ = m2m._translate(x0, wanted, old, f)
        loss = nn.functional.cross_entropy(g(x), wanted, reduction="none")
        loss = loss + 0.5 * f(x).gather(1, old[:, None]).squeeze(1)
        assert float(loss.sum()) <= before + 1e-6
        before = float(loss.sum())


@pytest.mark.parametrize("start", ["ball", "released", "none"])
def test_a_translation_stays_within_reach_and_within_bounds(start: str) -> None:
    torch.manual_seed(1)
    g, f = TinyNet(2).eval(), TinyNet(2).train()
    m2m = begun(M2m(start=start, deferred=0), [9, 2], g)
    x0 = torch.rand(7, 3, 8, 8)
    x, _ = m2m._translate(x0, torch.ones(7).long(), torch.zeros(7).long(), f)
    assert float((x - x0).flatten(1).norm(dim=1).max()) <= 0.5 + 10 * 0.1 + 1e-5
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1


def test_the_released_noise_is_smaller_by_the_root_of_three_over_the_batch() -> None:
    torch.manual_seed(2)
    m2m = begun(M2m(start="released", deferred=0), [9, 2], TinyNet(2).eval())
    noise = m2m._noise(torch.zeros(48, 3, 8, 8))
    expected = 0.5 * math.sqrt(3 / 48)
    assert float(noise.flatten(1).norm(dim=1).mean()) == pytest.approx(expected, rel=0.02)


def test_a_picture_at_its_bounds_stays_where_it_is() -> None:
    g = linear([[1.0, 1.0], [-1.0, -1.0]])
    m2m = begun(M2m(start="none", strength=0, deferred=0), [9, 2], g)
    x, _ = m2m._translate(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([0]), g)
    assert x.tolist() == [[0.0, 0.0]]


def test_what_is_replaced_keeps_the_label_that_was_there_and_g_and_f_stay_as_they_are() -> None:
    torch.manual_seed(3)
    g, f = TinyNet(3).eval(), TinyNet(3).train()
    before_g, before_f = copy.deepcopy(g.state_dict()), copy.deepcopy(f.state_dict())
    m2m = begun(M2m(gamma=0, beta=0.0, deferred=0), [30, 8, 2], g)
    targets = torch.tensor([0, 1, 2] * 8)
    inputs = torch.rand(24, 3, 8, 8)
    made = m2m.transform_batch(last_epoch(inputs, targets), f)
    assert torch.equal(made.targets, targets)
    changed = (made.inputs != inputs).flatten(1).any(dim=1)
    assert changed.any()
    assert not changed[targets == 0].any()  # the largest class never
    for network, before in ((g, before_g), (f, before_f)):
        assert all(torch.equal(before[name], now) for name, now in network.state_dict().items())
    assert f.training
    assert all(p.requires_grad for p in f.parameters())
    assert not made.inputs.requires_grad


def test_gamma_zero_accepts_all_that_were_drawn_and_gamma_one_none() -> None:
    torch.manual_seed(4)
    g = TinyNet(2).eval()
    targets, inputs = torch.tensor([0, 1] * 12), torch.rand(24, 3, 8, 8)
    for gamma, accepted in ((0.0, True), (1.0, False)):
        m2m = begun(M2m(gamma=gamma, beta=0.0, deferred=0), [30, 3], g)
        made = m2m.transform_batch(last_epoch(inputs, targets), TinyNet(2))
        m2m.on_epoch_end(9, None)
        told = m2m.diagnostics()
        assert told["m2m_tried"]["class 1"] > 0  # type: ignore[index,call-overload]
        found = told["m2m_accepted"]["class 1"]  # type: ignore[index,call-overload]
        assert (found == told["m2m_tried"]["class 1"]) == accepted  # type: ignore[index,call-overload]
        assert torch.equal(made.inputs, inputs) != accepted


def test_seeds_are_drawn_as_equation_4_says() -> None:
    counts = [400, 200, 100, 50]
    m2m = begun(M2m(beta=0.99, deferred=0), counts, linear([[0.0, 0.0]] * 4))
    targets = torch.arange(4).repeat(16)
    torch.manual_seed(5)
    found = torch.zeros(4)
    for _ in range(300):
        places, seeds = m2m._draw(targets)
        of_last = targets[seeds][targets[places] == 3]
        found += torch.bincount(of_last, minlength=4)
    # Drawn by Q, then kept by the same acceptance.
    chance = acceptance(torch.tensor(counts), 0.99)[3]
    expected = (chance * chance / (chance * chance).sum() * found.sum()).numpy()
    assert found[3] == 0
    assert stats.chisquare(found[:3].numpy(), expected[:3]).pvalue > 1e-3


def test_equal_counts_are_plain_training() -> None:
    m2m = begun(M2m(deferred=0), [5, 5], TinyNet(2).eval())
    batch = last_epoch(torch.rand(8, 3, 8, 8), torch.tensor([0, 1] * 4))
    assert m2m.transform_batch(batch, TinyNet(2)) is batch


def test_a_batch_without_a_larger_class_keeps_its_originals() -> None:
    m2m = begun(M2m(deferred=0), [9, 3, 3], TinyNet(3).eval())
    batch = last_epoch(torch.rand(8, 3, 8, 8), torch.tensor([1, 2] * 4))
    assert m2m.transform_batch(batch, TinyNet(3)) is batch


def test_nothing_happens_before_it_begins() -> None:
    m2m = begun(M2m(deferred=0.8), [9, 3], TinyNet(2).eval())
    batch = last_epoch(torch.rand(8, 3, 8, 8), torch.tensor([0, 1] * 4), epoch=7)
    assert m2m.transform_batch(batch, TinyNet(2)) is batch
    assert m2m.make_sampler(7) is None
    weights = m2m.make_sampler(8)
    assert weights is not None
    by_class = [float(weights[m2m.task.targets == k].sum()) for k in (0, 1)]
    assert by_class == pytest.approx([1, 1])


def test_clean_takes_the_seed_and_random_another_label() -> None:
    torch.manual_seed(6)
    g = TinyNet(4).eval()
    targets, inputs = torch.arange(4).repeat(8), torch.rand(32, 3, 8, 8)
    clean = begun(M2m(seeds="clean", gamma=0, beta=0.0, deferred=0), [40, 20, 10, 3], g)
    made = clean.transform_batch(last_epoch(inputs, targets), TinyNet(4))
    for row, picture in enumerate(made.inputs):
        assert any(torch.equal(picture, original) for original in inputs), row
    chance = begun(M2m(labels="random", gamma=0, beta=0.0, deferred=0), [40, 20, 10, 3], g)
    made = chance.transform_batch(last_epoch(inputs, targets), TinyNet(4))
    replaced = (made.inputs != inputs).flatten(1).any(dim=1)
    assert replaced.any()
    assert (made.targets[replaced] != targets[replaced]).all()
    assert torch.equal(made.targets[~replaced], targets[~replaced])


@pytest.mark.parametrize(
    "options",
    [
        {"beta": 1.0},
        {"gamma": 1.5},
        {"steps": -1},
        {"steps": 10.5},
        {"step_size": 0.0},
        {"strength": -0.1},
        {"deferred": 2.0},
        {"start": "anywhere"},
        {"seeds": "minor"},
        {"labels": "mine"},
    ],
)
def test_settings_that_cannot_be_are_refused(options: dict[str, float | str]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        make_strategy("m2m", options)
