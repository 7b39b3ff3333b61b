from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ConfigError, ShapeError
from models.rebalancing import difficulty as module
from models.rebalancing.difficulty import Difficulty, learning_and_unlearning
from tests.unit.models.rebalancing.small_runs import task_of

EXAMPLES, CLASSES = 5, 4
RAW = arrays(np.float64, (EXAMPLES, CLASSES), elements=st.floats(0, 1))
TARGETS = arrays(np.int64, EXAMPLES, elements=st.integers(0, CLASSES - 1))
Floats = NDArray[np.float64]


def _simplex(raw: Floats) -> Tensor:
    values = torch.from_numpy(raw) + 1e-9
    return values / values.sum(dim=1, keepdim=True)


def _begun(targets: list[int], classes: int = 2, **options: float | bool) -> Difficulty:
    strategy = Difficulty(**options)  # type: ignore[arg-type]
    labels = torch.tensor(targets)
    counts = torch.bincount(labels, minlength=classes)
    strategy.begin(task_of(counts, targets=labels))
    return strategy


# The formulas -----------------------------------------------------------------------------------


def test_one_step_towards_the_label_and_back() -> None:
    strategy = _begun([0])
    strategy.on_epoch_end(0, torch.tensor([[0.6, 0.4]]))
    expected = 0.1 * math.log(1.2) - 0.1 * math.log(0.8)
    assert expected == pytest.approx(0.040547, abs=5e-7)
    state = strategy.state_dict()
    assert float(state["learning"]) == pytest.approx(expected, rel=1e-6)
    assert float(state["unlearning"]) == 0
    assert float(strategy.difficulties) == pytest.approx(0.96103, abs=5e-6)
    strategy.on_epoch_end(1, torch.tensor([[0.5, 0.5]]))
    assert float(strategy.state_dict()["unlearning"]) == pytest.approx(expected, rel=1e-6)
    assert float(strategy.difficulties) == 1.0


def test_of_three_classes_other_classes_may_rise_and_fall_at_once() -> None:
    before = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    after = torch.tensor([[0.6, 0.1, 0.3]], dtype=torch.float64)
    learned, lost = learning_and_unlearning(before, after, torch.tensor([0]))
    assert float(learned) == pytest.approx(0.1 * math.log(1.2) - 0.2 * math.log(1 / 3))
    assert float(lost) == pytest.approx(0.1 * math.log(1.5))


@given(RAW, RAW, TARGETS)
def test_both_are_never_negative_and_together_the_psi(
    before: Floats, after: Floats, targets: NDArray[np.int64]
) -> None:
    q, p = _simplex(before), _simplex(after)
    learned, lost = learning_and_unlearning(q, p, torch.from_numpy(targets))
    q, p = q.clamp(1e-7, 1), p.clamp(1e-7, 1)
    psi = ((p - q) * (p / q).log()).sum(dim=1)
    assert (learned >= 0).all()
    assert (lost >= 0).all()
    assert torch.allclose(learned + lost, psi, rtol=1e-6, atol=1e-12)


@given(RAW, RAW, TARGETS)
def test_the_way_back_swaps_the_two(
    before: Floats, after: Floats, targets: NDArray[np.int64]
) -> None:
    q, p, y = _simplex(before), _simplex(after), torch.from_numpy(targets)
    there, back = learning_and_unlearning(q, p, y), learning_and_unlearning(p, q, y)
    assert torch.equal(there[0], back[1])
    assert torch.equal(there[1], back[0])


@given(RAW, RAW, TARGETS, st.permutations(range(CLASSES)))
def test_the_order_of_the_classes_does_not_matter(
    before: Floats, after: Floats, targets: NDArray[np.int64], order: list[int]
) -> None:
    q, p, y = _simplex(before), _simplex(after), torch.from_numpy(targets)
    place = torch.tensor(order).argsort()
    plain = learning_and_unlearning(q, p, y)
    turned = learning_and_unlearning(q[:, order], p[:, order], place[y])
    for one, other in zip(plain, turned, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_certainty_in_the_wrong_class_is_finite() -> None:
    strategy = _begun([0], classes=3)
    strategy.on_epoch_end(0, torch.tensor([[0.0, 1.0, 0.0]]))
    strategy.on_epoch_end(1, torch.tensor([[1.0, 0.0, 0.0]]))
    state = strategy.state_dict()
    # One term is at most about ln 1e7.
    assert 0 < float(state["learning"]) < 3 * 16.2
    assert strategy.weights.isfinite().all()


@given(st.lists(RAW, min_size=1, max_size=5), TARGETS, st.floats(0.01, 100))
def test_weights_are_a_distribution_whatever_is_said(
    said: list[Floats], targets: NDArray[np.int64], c: float
) -> None:
    strategy = _begun(targets.tolist(), classes=CLASSES, c=c)
    for epoch, raw in enumerate(said):
        strategy.on_epoch_end(epoch, _simplex(raw).float())
    weights = strategy.weights
    assert weights.isfinite().all()
    assert (weights > 0).all()
    assert float(weights.sum()) == pytest.approx(1)


# The strategy -----------------------------------------------------------------------------------


def test_an_example_that_never_moves_keeps_its_difficulty() -> None:
    strategy = _begun([0, 0])
    first = torch.tensor([[0.5, 0.5], [0.3, 0.7]])
    strategy.on_epoch_end(0, first)
    before = strategy.difficulties
    assert float(before[0]) == 1.0
    strategy.on_epoch_end(1, first)
    assert torch.equal(strategy.difficulties, before)


def test_what_is_unlearned_is_drawn_oftener() -> None:
    strategy = _begun([0, 0])
    for epoch in range(6):
        swings = 0.9 if epoch % 2 else 0.4
        strategy.on_epoch_end(epoch, torch.tensor([[0.9, 0.1], [swings, 1 - swings]]))
    weights = strategy.make_sampler(6)
    assert weights is not None
    assert weights[1] > weights[0]


def test_before_anything_is_known_all_are_shuffled_or_drawn_with_replacement() -> None:
    assert _begun([0, 1, 0]).make_sampler(0) is None
    weights = _begun([0, 1, 0], replacement=True).make_sampler(0)
    assert weights is not None
    assert weights.tolist() == pytest.approx([1 / 3] * 3)


def test_equal_difficulties_are_shuffled() -> None:
    strategy = _begun([0, 0, 0])
    strategy.on_epoch_end(0, torch.tensor([[0.7, 0.3]] * 3))
    assert strategy.make_sampler(1) is None


def test_strong_damping_comes_to_drawing_all_alike() -> None:
    strategy = _begun([0, 0], c=1e9)
    strategy.on_epoch_end(0, torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    assert strategy.weights.tolist() == pytest.approx([0.5, 0.5])


def test_the_largest_are_capped_for_drawing_but_not_for_review() -> None:
    strategy = _begun([0] * 1000, cap=0.99)
    said = torch.tensor([[0.5, 0.5]]).repeat(1000, 1)
    said[3] = torch.tensor([0.01, 0.99])
    said[500:520, 0], said[500:520, 1] = 0.4, 0.6
    strategy.on_epoch_end(0, said)
    weights = strategy.weights
    # The 990th of 1000 is one of the twenty.
    assert float(weights[3]) == float(weights[500]) > float(weights[0])
    rows, found = strategy.hardest(3)
    assert rows.tolist() == [3, 500, 501]
    assert found[0] > found[1] == found[2] > 1
    uncapped = _begun([0] * 1000, cap=1.0)
    uncapped.on_epoch_end(0, said)
    assert float(uncapped.weights[3]) > float(uncapped.weights[500])


def test_hardest_gives_as_many_as_there_are() -> None:
    strategy = _begun([0, 1])
    assert [len(part) for part in strategy.hardest(10)] == [2, 2]
    assert [len(part) for part in strategy.hardest(0)] == [0, 0]
    assert [len(part) for part in strategy.hardest(-1)] == [0, 0]
    assert strategy.hardest(2)[0].tolist() == [0, 1]


def test_a_diverged_network_changes_nothing() -> None:
    strategy = _begun([0, 0])
    strategy.on_epoch_end(0, torch.tensor([[0.6, 0.4], [math.nan, math.nan]]))
    assert strategy.difficulties.isfinite().all()
    assert float(strategy.difficulties[1]) == 1.0
    strategy.on_epoch_end(1, torch.tensor([[0.6, 0.4], [0.6, 0.4]]))
    one, other = strategy.difficulties.tolist()
    assert one == other


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    said = torch.softmax(torch.randn(11, 3), dim=1)
    targets = torch.randint(0, 3, (11,)).tolist()
    whole = _begun(targets, classes=3)
    whole.on_epoch_end(0, said)
    monkeypatch.setattr(module, "_MOST_ENTRIES", 6)
    parts = _begun(targets, classes=3)
    parts.on_epoch_end(0, said)
    assert torch.equal(whole.difficulties, parts.difficulties)


def test_the_state_goes_on_where_it_was() -> None:
    torch.manual_seed(0)
    said = [torch.softmax(torch.randn(6, 3), dim=1) for _ in range(4)]
    through, first = (_begun([0, 1, 2, 0, 1, 2], classes=3) for _ in range(2))
    for epoch in range(4):
        through.on_epoch_end(epoch, said[epoch])
    for epoch in range(2):
        first.on_epoch_end(epoch, said[epoch])
    second = _begun([0, 1, 2, 0, 1, 2], classes=3)
    second.load_state_dict({name: t.clone() for name, t in first.state_dict().items()})
    for epoch in range(2, 4):
        second.on_epoch_end(epoch, said[epoch])
    assert torch.equal(second.difficulties, through.difficulties)


def test_a_held_state_does_not_move() -> None:
    strategy = _begun([0, 0])
    held = strategy.state_dict()
    copy = {name: value.clone() for name, value in held.items()}
    strategy.on_epoch_end(0, torch.tensor([[0.6, 0.4], [0.2, 0.8]]))
    assert all(torch.equal(held[name], copy[name]) for name in held)


def test_probabilities_that_do_not_fit_are_refused() -> None:
    strategy = _begun([0, 0])
    for said in (None, torch.ones(3, 2), torch.ones(2, 3)):
        with pytest.raises(ShapeError, match="probabilities"):
            strategy.on_epoch_end(0, said)
    with pytest.raises(ShapeError, match="training set"):
        strategy.load_state_dict(_begun([0, 1, 1]).state_dict())


@pytest.mark.parametrize(
    "options",
    [{"c": 0.0}, {"c": -1.0}, {"c": math.inf}, {"c": math.nan}, {"cap": 0.0}, {"cap": 1.1}],
)
def test_options_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        Difficulty(**options)  # type: ignore[arg-type]
