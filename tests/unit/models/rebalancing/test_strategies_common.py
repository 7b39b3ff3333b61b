"""What every strategy of the table promises: one suite over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.errors import ConfigError
from models.rebalancing import STRATEGIES, Strategy, make_strategy, options_of
from tests.unit.models.rebalancing.small_runs import (
    BATCH,
    SKEWED,
    Options,
    SmallRun,
    begun,
)

# Those that need more than a moment with what they are given by default.
_SMALL_GAN: Options = {"blocks": 1, "width": 4, "gan_batch": 2}
QUICK: Mapping[str, Options] = {
    "joint_generation_aug": {**_SMALL_GAN, "gan_steps": 3},
    "joint_generation_alt": _SMALL_GAN,
}
WORLDS = {
    "skewed": SKEWED,
    "a class without labels": (20, 0, 5),
    "one example a class": (1, 1, 1),
    "one example of a class": (12, 5, 1),
    "equal counts": (6, 6, 6),
    "two classes": (20, 4),
}


@pytest.fixture(params=list(STRATEGIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _run(
    name: str,
    tmp_path: Path,
    counts: tuple[int, ...] = SKEWED,
    *,
    epochs: int = 5,
    restart: Mapping[str, Tensor] | None = None,
) -> SmallRun:
    pictures = bool(make_strategy(name, QUICK.get(name, {})).needs_pictures)
    return SmallRun(
        name,
        counts,
        run_dir=tmp_path,
        options=QUICK.get(name),
        pictures=pictures,
        epochs=epochs,
        restart=restart,
    )


def _with_pictures(name: str, tmp_path: Path) -> SmallRun:
    return SmallRun(name, run_dir=tmp_path, options=QUICK.get(name), pictures=True)


@pytest.mark.parametrize("counts", WORLDS.values(), ids=WORLDS)
def test_it_trains(name: str, counts: tuple[int, ...], tmp_path: Path) -> None:
    run = _run(name, tmp_path, counts)
    for epoch in range(run.task.epochs):
        run.epoch(epoch)
    run.strategy.finish(run.network)
    assert all(torch.isfinite(value).all() for value in run.network.state_dict().values())
    assert torch.isfinite(torch.tensor(run.losses)).all()
    assert run.probabilities().isfinite().all()


def test_it_trains_on_pictures_too(name: str, tmp_path: Path) -> None:
    run = _with_pictures(name, tmp_path)
    for epoch in range(run.task.epochs):
        run.epoch(epoch)
    run.strategy.finish(run.network)
    assert run.probabilities().shape == (len(run.task.targets), 3)


def test_examples_keep_shape_and_type_and_those_given(name: str, tmp_path: Path) -> None:
    run = _run(name, tmp_path)
    assert run.task.inputs.dtype == run.given_inputs.dtype
    assert run.task.inputs.shape[1:] == run.given_inputs.shape[1:]
    assert run.task.targets.dtype == torch.int64
    assert len(run.task.inputs) == len(run.task.targets) >= len(run.given)
    assert torch.equal(run.task.targets[: len(run.given)], run.given)


@pytest.mark.parametrize("counts", WORLDS.values(), ids=WORLDS)
def test_the_sampler_can_be_drawn_from(name: str, counts: tuple[int, ...], tmp_path: Path) -> None:
    run = _run(name, tmp_path, counts)
    for epoch in range(run.task.epochs):
        weights = run.strategy.make_sampler(epoch)
        if weights is not None:
            assert weights.shape == (len(run.task.targets),)
            assert weights.isfinite().all()
            assert (weights >= 0).all()
            assert weights.sum() > 0


@pytest.mark.parametrize("counts", WORLDS.values(), ids=WORLDS)
def test_the_loss_is_finite_with_a_gradient(
    name: str, counts: tuple[int, ...], tmp_path: Path
) -> None:
    run = _run(name, tmp_path, counts)
    rows = torch.arange(min(BATCH, len(run.task.targets)))
    batch = run.batch(rows, 0)
    for epoch in range(run.task.epochs):
        logits = torch.randn(len(rows), len(counts), requires_grad=True)
        loss = run.strategy.make_criterion(epoch)(logits, batch.targets)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.shape == ()
        assert loss.isfinite()
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_the_loss_of_sure_networks_is_finite(name: str, tmp_path: Path) -> None:
    run = _run(name, tmp_path)
    logits = torch.tensor([[300.0, 0.0, -300.0]] * 3, requires_grad=True)
    for epoch in (0, run.task.epochs - 1):
        loss = run.strategy.make_criterion(epoch)(logits, torch.arange(3))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_the_loss_is_the_mean_of_the_examples(name: str, tmp_path: Path) -> None:
    """Not divided by the sum of the weights of what happens to be in the batch."""
    run = _run(name, tmp_path)
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 2])
    for epoch in (0, run.task.epochs - 1):
        criterion = run.strategy.make_criterion(epoch)
        alone = [float(criterion(logits[i : i + 1], targets[i : i + 1])) for i in range(6)]
        assert float(criterion(logits, targets)) == pytest.approx(sum(alone) / 6, rel=1e-6)


def test_looking_changes_nothing(name: str, tmp_path: Path) -> None:
    """Sampler, loss, diagnostics and state draw no random number and can be asked twice."""
    run = _run(name, tmp_path)
    run.epoch(0)
    before = torch.get_rng_state()
    looks = []
    for _ in range(2):
        weights = run.strategy.make_sampler(4)
        loss = run.strategy.make_criterion(4)(torch.eye(3), torch.arange(3))
        state = {key: value.clone() for key, value in run.strategy.state_dict().items()}
        looks.append((weights, loss, run.strategy.diagnostics(), run.strategy.mature_epoch()))
        assert _same(state, run.strategy.state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    (one_weights, one_loss, *one), (two_weights, two_loss, *two) = looks
    assert one == two
    assert torch.equal(one_loss, two_loss)
    assert (one_weights is None) == (two_weights is None)
    if one_weights is not None and two_weights is not None:
        assert torch.equal(one_weights, two_weights)


def test_the_seed_decides(name: str, tmp_path: Path) -> None:
    first, again = (_run(name, tmp_path / part) for part in ("first", "again"))
    for run in (first, again):
        for epoch in range(run.task.epochs):
            run.epoch(epoch)
    assert first.losses == again.losses
    assert _same(first.network.state_dict(), again.network.state_dict())


def test_a_run_taken_up_in_the_middle_ends_the_same(name: str, tmp_path: Path) -> None:
    whole = _run(name, tmp_path / "whole")
    half = _run(name, tmp_path / "half")
    for epoch in range(whole.task.epochs):
        whole.epoch(epoch)
    for epoch in range(2):
        half.epoch(epoch)
    state = {key: value.clone() for key, value in half.strategy.state_dict().items()}
    assert all(key and not key.split()[1:] for key in state)
    other = _run(name, tmp_path / "half", restart=state)
    other.network.load_state_dict(half.network.state_dict())
    assert _same(other.strategy.state_dict(), state)
    for epoch in range(2, whole.task.epochs):
        other.epoch(epoch)
    assert half.losses + other.losses == whole.losses
    assert _same(other.network.state_dict(), whole.network.state_dict())
    assert _same(other.strategy.state_dict(), whole.strategy.state_dict())


def test_batches_keep_their_form_and_the_network_its_mode(name: str, tmp_path: Path) -> None:
    run = _run(name, tmp_path)
    run.network.train()
    for epoch in range(run.task.epochs):
        batch = run.batch(torch.arange(BATCH), epoch)
        given = batch.inputs.clone(), batch.targets.clone()
        out = run.strategy.transform_batch(batch, run.network)
        run.strategy.auxiliary_step(out, run.network)
        assert torch.equal(batch.inputs, given[0])
        assert torch.equal(batch.targets, given[1])
        assert out.inputs.shape[1:] == batch.inputs.shape[1:]
        assert len(out.inputs) == len(out.targets) >= len(batch.targets)
        assert out.inputs.dtype == batch.inputs.dtype
        assert ((out.targets >= 0) & (out.targets < 3)).all()
        assert not out.inputs.requires_grad
        assert run.network.training
        assert all(module.training for module in run.network.modules())
        assert all(p.requires_grad and p.grad is None for p in run.network.parameters())


@pytest.mark.parametrize("epochs", [3, 20, 200])
def test_it_is_mature_before_the_end(name: str, epochs: int, tmp_path: Path) -> None:
    run = _run(name, tmp_path, epochs=epochs)
    assert 0 <= run.strategy.mature_epoch() < epochs


# The table --------------------------------------------------------------------------------------


def test_only_plain_training_leaves_the_priors_in() -> None:
    assert [n for n in STRATEGIES if not make_strategy(n, {}).balances] == ["erm", "focal"]


def test_an_unknown_name_is_refused_with_those_known() -> None:
    with pytest.raises(ConfigError, match=r"found strategy 'emr'; expected one of erm, focal,"):
        make_strategy("emr", {})


def test_an_unknown_option_is_refused_with_those_taken(name: str) -> None:
    with pytest.raises(ConfigError, match="no option gama, tua; it takes ") as caught:
        make_strategy(name, {"gama": 1.0, "tua": 2.0})
    for option in options_of(name) or ("none",):
        assert option in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option"), [("m2m_no_lambda", "strength"), ("m2m_undeferred", "deferred")]
)
def test_what_a_name_fixes_is_no_option(name: str, option: str) -> None:
    assert option in options_of("m2m")
    assert option not in options_of(name)
    with pytest.raises(ConfigError, match=f"no option {option}"):
        make_strategy(name, {option: 0.5})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("focal", {"gamma": "much"}),
        ("class_balanced", {"beta": "near one"}),
        ("smote", {"neighbours": "all"}),
        ("difficulty", {"c": "big"}),
    ],
)
def test_a_value_of_another_kind_is_refused(name: str, options: Options) -> None:
    with pytest.raises(ConfigError, match=name):
        make_strategy(name, options)


def test_a_value_that_cannot_be_is_refused_with_the_strategys_name() -> None:
    with pytest.raises(ConfigError, match="focal: found gamma -1; expected a number >= 0"):
        make_strategy("focal", {"gamma": -1})


def test_the_base_changes_nothing() -> None:
    strategy = begun(Strategy(), SKEWED)
    network = nn.Linear(2, 2)
    assert strategy.prepare_network(network) is network
    assert strategy.make_sampler(0) is None
    assert strategy.state_dict() == {}


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
