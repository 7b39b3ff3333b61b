from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ConfigError, NotEnoughLabels
from models.rebalancing.base import Batch, Task
from models.rebalancing.joint_generation import JointGeneration
from models.rebalancing.partners import Choice, choose_partners, most_confused
from tests.unit.models.rebalancing.small_runs import TinyNet, pictures_of, targets_of

CPU = torch.device("cpu")
SMALL = {"blocks": 1, "width": 2, "gan_steps": 3, "gan_batch": 2}
COUNTS = (20, 12)


class _Says(nn.Module):
    """g: says what the table has for the brightness of a picture's first pixel."""

    def __init__(self, said: dict[int, int], classes: int) -> None:
        super().__init__()
        self.said, self.classes = said, classes

    def forward(self, images: Tensor) -> Tensor:
        keys = (images[:, 0, 0, 0] * 255).round().int().tolist()
        return F.one_hot(torch.tensor([self.said[key] for key in keys]), self.classes).float()


def _task(
    folder: Path,
    counts: Sequence[int] = COUNTS,
    *,
    inputs: Tensor | None = None,
    device: str = "cpu",
    reference: nn.Module | None = None,
    epochs: int = 3,
) -> Task:
    targets = targets_of(counts)
    return Task(
        inputs=pictures_of(targets) if inputs is None else inputs,
        targets=targets,
        class_names=tuple(f"class {k}" for k in range(len(counts))),
        epochs=epochs,
        batch=8,
        seed=4,
        device=torch.device(device),
        run_dir=folder,
        train_reference=None if reference is None else lambda: reference,
    )


def _begun(task: Task, **options: float | str | None) -> JointGeneration:
    strategy = JointGeneration(**{**SMALL, **options})  # type: ignore[arg-type]
    strategy.begin(task)
    return strategy


def _batch(task: Task, rows: Tensor | None = None) -> Batch:
    rows = torch.arange(8) if rows is None else rows
    return Batch(task.inputs[rows].float() / 255, task.targets[rows], rows, 0)


def _hash(*networks: nn.Module) -> str:
    digest = hashlib.sha256()
    for network in networks:
        for name, value in network.state_dict().items():
            digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _train(
    strategy: JointGeneration, task: Task, network: nn.Module, epochs: Sequence[int]
) -> list[float]:
    """The classifier's training, as the loop has it."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for epoch in epochs:
        torch.manual_seed(100 + epoch)
        weights = strategy.make_sampler(epoch)
        assert weights is not None
        criterion = strategy.make_criterion(epoch)
        network.train()
        for rows in torch.multinomial(weights, len(task.targets), replacement=True).split(8):
            batch = strategy.transform_batch(_batch(task, rows), network)
            loss = criterion(network(batch.inputs), batch.targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            strategy.auxiliary_step(batch, network)
        strategy.on_epoch_end(epoch, None)
    return losses


# Pairs ------------------------------------------------------------------------------------------


def _choose(
    counts: Sequence[int],
    confusion: Tensor | None = None,
    *,
    tail: Sequence[str] = (),
    gamma: float | None = None,
) -> Choice:
    def asked() -> Tensor:
        assert confusion is not None, "there is no choice"
        return confusion

    names = [f"class {k}" for k in range(len(counts))]
    return choose_partners(torch.tensor(counts), names, confusion=asked, tail=tail, gamma=gamma)


def test_the_partner_is_what_the_tail_class_is_taken_for() -> None:
    confusion = torch.eye(4)
    confusion[3] = torch.tensor([0.1, 0.3, 0.0, 0.6])
    (pair,) = _choose((100, 90, 80, 15), confusion).partners
    assert (pair.minority, pair.majority) == (3, 1)
    assert pair.gamma == pytest.approx(90 / 15)


def test_of_ties_the_largest_class() -> None:
    assert most_confused(torch.tensor([0.2, 0.2, 0.2, 0.4]), [0, 1, 2], (80, 100, 100, 15)) == 1
    (pair,) = _choose((80, 90, 100, 15), torch.eye(4)).partners
    assert pair.majority == 2


def test_a_tail_class_is_no_partner() -> None:
    confusion = torch.zeros(4, 4)
    confusion[2, 3] = confusion[3, 2] = 0.9
    pairs = _choose((100, 100, 15, 14), confusion).partners
    assert [(pair.minority, pair.majority) for pair in pairs] == [(2, 0), (3, 0)]


@pytest.mark.parametrize(("counts", "minority"), [((60, 20), 1), ((20, 60), 0), ((30, 30), 1)])
def test_two_classes_are_the_one_pair_without_a_network_g(
    counts: tuple[int, int], minority: int
) -> None:
    (pair,) = _choose(counts).partners
    assert (pair.minority, pair.majority) == (minority, 1 - minority)


@pytest.mark.parametrize(
    ("counts", "gamma"), [((30, 30), 1.0), ((60, 20), 3.0), ((5000, 20), 100.0)]
)
def test_gamma_is_the_ratio_up_to_a_hundred(counts: tuple[int, int], gamma: float) -> None:
    choice = _choose(counts)
    assert choice.partners[0].gamma == gamma
    assert choice.weights.tolist() == pytest.approx([1 / gamma, 1])


def test_a_given_gamma_is_that_of_all_pairs() -> None:
    choice = _choose((100, 90, 20, 14), torch.eye(4), gamma=2, tail=("class 2", "class 3"))
    assert [pair.gamma for pair in choice.partners] == [2, 2]
    assert choice.weights.tolist() == [0.5, 0.5, 1, 1]


def test_a_majority_in_no_pair_counts_as_if_it_were_in_one() -> None:
    choice = _choose((100, 50, 20), torch.eye(3), tail=("class 2",))
    assert [pair.majority for pair in choice.partners] == [0]
    assert choice.weights.tolist() == pytest.approx([20 / 100, 20 / 50, 1])


@pytest.mark.parametrize("few", [0, 1])
def test_one_of_two_classes_with_less_than_two_labels_is_refused(few: int) -> None:
    with pytest.raises(NotEnoughLabels, match=f"class 1 has {few} label"):
        _choose((30, few))


def test_a_named_class_with_less_than_two_labels_is_refused() -> None:
    with pytest.raises(NotEnoughLabels, match="class 2 has 1 label"):
        _choose((100, 100, 1), tail=("class 2",))


def test_others_with_too_few_labels_are_left_out_with_the_reason() -> None:
    choice = _choose((200, 200, 12, 11, 1, 0), torch.eye(6))
    assert [pair.minority for pair in choice.partners] == [2]
    eleven, one, none = choice.warnings
    assert "class 3 has 11 label(s), less than 12" in eleven
    assert one.startswith("refused: class 4 has 1 label(s)")
    assert none.startswith("refused: class 5 has 0 label(s)")
    assert choice.weights[2:].tolist() == [1] * 4


def test_two_classes_are_warned_of_below_twelve_labels() -> None:
    choice = _choose((30, 11))
    assert len(choice.partners) == 1
    assert "class 1 has 11 label(s), less than 12" in choice.warnings[0]


@pytest.mark.parametrize(
    ("counts", "why"), [((20, 20, 20), "no class is rare"), ((40, 40, 5), "no pair has labels")]
)
def test_without_a_pair_nothing_changes(
    counts: tuple[int, ...], why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = _task(tmp_path, counts)
    with caplog.at_level(logging.WARNING):
        strategy = _begun(task)
    assert why in caplog.text
    assert why in str(strategy.diagnostics()["warnings"])
    batch = _batch(task)
    assert torch.equal(strategy.transform_batch(batch, TinyNet(3)).inputs, batch.inputs)
    assert strategy.make_sampler(0) is None
    logits = torch.randn(8, 3)
    expected = F.cross_entropy(logits, batch.targets)
    torch.testing.assert_close(strategy.make_criterion(0)(logits, batch.targets), expected)


def test_unknown_and_too_many_tail_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="found tail owl; expected some of class 0, class 1"):
        _choose((30, 20), tail=("owl",))
    with pytest.raises(ConfigError, match="name fewer"):
        _choose((30, 20), tail=("class 0", "class 1"))


def test_the_network_g_is_asked_about_the_training_examples(tmp_path: Path) -> None:
    counts = (40, 30, 20)
    targets = targets_of(counts)
    inputs = (targets * 10).byte().view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    for taken_for in (0, 1):
        g = _Says({0: 0, 10: 1, 20: taken_for}, 3)
        task = _task(tmp_path / str(taken_for), counts, inputs=inputs, reference=g)
        strategy = _begun(task, mode="alt", tail=" class 2 ,")
        assert strategy.diagnostics()["pairs"] == {"class 2": f"class {taken_for}"}


def test_more_than_two_classes_need_the_network_g(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="network g"):
        _begun(_task(tmp_path, (40, 30, 20)), tail="class 2")


# Batches and loss -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["aug", "alt"])
def test_a_batch_gets_the_translations_of_its_pictures(mode: str, tmp_path: Path) -> None:
    task = _task(tmp_path)
    strategy = _begun(task, mode=mode)
    batch = _batch(task)
    out = strategy.transform_batch(batch, TinyNet(2))
    assert len(out.inputs) == 16
    assert torch.equal(out.inputs[:8], batch.inputs)
    majority, minority = batch.targets == 0, batch.targets == 1
    translated, labels = out.inputs[8:], out.targets[8:]
    count = int(majority.sum())
    assert labels.tolist() == [1] * count + [0] * (8 - count)
    assert out.rows[8:].tolist() == [
        *batch.rows[majority].tolist(),
        *batch.rows[minority].tolist(),
    ]
    (translation,) = strategy.pairs.values()
    expected = translation.to_minority(batch.inputs[majority])
    torch.testing.assert_close(translated[:count], expected)
    expected = translation.to_majority(batch.inputs[minority])
    torch.testing.assert_close(translated[count:], expected)
    assert not translated.requires_grad


def test_a_batch_of_one_class_is_enough(tmp_path: Path) -> None:
    task = _task(tmp_path)
    strategy = _begun(task)
    rows = torch.nonzero(task.targets == 0).squeeze(1)[:3]
    assert (
        strategy.transform_batch(_batch(task, rows), TinyNet(2)).targets.tolist()
        == [0] * 3 + [1] * 3
    )


def test_the_loss_is_the_published_one(tmp_path: Path) -> None:
    """With as many of both classes, four times the mean is L_cls^B + L_cls^A / gamma."""
    task = _task(tmp_path, (24, 12))
    strategy = _begun(task, mode="alt", gamma=0.0)
    rows = torch.cat([torch.nonzero(task.targets == k).squeeze(1)[:4] for k in (0, 1)])
    torch.manual_seed(0)
    network = TinyNet(2).eval()
    batch = strategy.transform_batch(_batch(task, rows), network)
    logits = network(batch.inputs)
    a, b, as_b, as_a = (F.log_softmax(part, dim=1) for part in logits.split(4))
    expected = -b[:, 1].mean() - as_b[:, 1].mean() - (a[:, 0].mean() + as_a[:, 0].mean()) / 2
    loss = strategy.make_criterion(0)(logits, batch.targets)
    torch.testing.assert_close(4 * loss, expected)


def test_partners_are_drawn_alike(tmp_path: Path) -> None:
    task = _task(tmp_path)
    weights = _begun(task, mode="alt").make_sampler(0)
    assert weights is not None
    shares = [float(weights[task.targets == k].sum()) for k in (0, 1)]
    assert shares[0] == pytest.approx(shares[1])


# aug --------------------------------------------------------------------------------------------


def test_aug_leaves_its_generators_alone(tmp_path: Path) -> None:
    task = _task(tmp_path)
    strategy = _begun(task)
    (translation,) = strategy.pairs.values()
    networks = translation.g_ab, translation.g_ba, translation.d_a, translation.d_b
    before = _hash(*networks)
    _train(strategy, task, TinyNet(2), range(2))
    assert _hash(*networks) == before
    assert not any(p.requires_grad for network in networks for p in network.parameters())
    assert strategy.state_dict() == {}


def test_aug_reads_what_it_trained(tmp_path: Path) -> None:
    task = _task(tmp_path)
    first = _begun(task)
    told: list[int] = []
    again = Task(**{**vars(task), "progress": lambda done, total, message="": told.append(done)})
    second = _begun(again)
    assert told == []
    (one,), (other,) = first.pairs.values(), second.pairs.values()
    assert _hash(one.g_ab, one.g_ba) == _hash(other.g_ab, other.g_ba)
    folder = tmp_path / "joint_generation" / "1-from-0"
    assert sorted(p.name for p in folder.iterdir()) == [
        "checkpoint.safetensors",
        "samples-000003.png",
    ]


# alt --------------------------------------------------------------------------------------------


def test_alt_teaches_its_generators_and_not_the_classifier(tmp_path: Path) -> None:
    """Step (iii): the classifier's weights stay, the gradient with respect to G is not zero."""
    task = _task(tmp_path)
    # Nothing but the classifier's loss moves the generators a lot.
    strategy = _begun(task, mode="alt", alpha=0, beta=0)
    (translation,) = strategy.pairs.values()
    torch.manual_seed(0)
    network = TinyNet(2).train()
    classifier, generators = _hash(network), _hash(translation.g_ab, translation.g_ba)
    judged: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> None:
        assert not module.training
        inputs[0].register_hook(judged.append)

    handle = network.register_forward_hook(note)
    strategy.auxiliary_step(_batch(task), network)
    handle.remove()
    assert _hash(network) == classifier, "neither weights nor statistics of batch normalisation"
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert network.training
    assert len(judged) == 2, "both translations are judged"
    assert all(gradient.abs().sum() > 0 for gradient in judged)
    for generator in (translation.g_ab, translation.g_ba):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in generator.parameters())
    assert _hash(translation.g_ab, translation.g_ba) != generators


@pytest.mark.parametrize("gan_every", [1, 2])
def test_alt_taken_up_in_the_middle_ends_with_the_same_bits(gan_every: int, tmp_path: Path) -> None:
    task = _task(tmp_path)
    torch.manual_seed(1)
    start = TinyNet(2)
    whole, network = _begun(task, mode="alt", gan_every=gan_every), copy.deepcopy(start)
    losses = _train(whole, task, network, range(3))
    half, other = _begun(task, mode="alt", gan_every=gan_every), copy.deepcopy(start)
    first = _train(half, task, other, range(1))
    state = {key: value.clone() for key, value in half.state_dict().items()}
    assert all(" " not in key for key in state)
    resumed = _begun(task, mode="alt", gan_every=gan_every)
    resumed.load_state_dict(state)
    assert first + _train(resumed, task, other, (1, 2)) == losses
    assert _hash(other) == _hash(network)
    ends = [strategy.state_dict() for strategy in (whole, resumed)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_alt_tells_its_losses_and_draws_samples(tmp_path: Path) -> None:
    task = _task(tmp_path)
    strategy = _begun(task, mode="alt", grid_every=2)
    _train(strategy, task, TinyNet(2), range(3))
    told = strategy.diagnostics()
    assert told["pairs"] == {"class 1": "class 0"}
    assert {key for key in told if key.startswith("gan_")} == {
        "gan_d",
        "gan_g",
        "gan_cycle",
        "gan_identity",
        "gan_class",
    }
    folder = tmp_path / "joint_generation" / "1-from-0"
    assert sorted(path.name for path in folder.iterdir()) == [
        "samples-0002.png",
        "samples-0003.png",
    ]


# Refusals ---------------------------------------------------------------------------------------


def _blank(count: int, side: int) -> Tensor:
    return torch.zeros(count, 3, side, side, dtype=torch.uint8)


def test_large_pictures_are_refused_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"136 px pictures would take weeks.*set a device"):
        _begun(_task(tmp_path, inputs=_blank(32, 136)))


def test_middle_pictures_are_warned_of_on_a_cpu(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        strategy = _begun(_task(tmp_path, inputs=_blank(32, 72)), mode="alt")
    assert "72 px pictures is slow on a CPU" in caplog.text
    assert "72 px pictures is slow on a CPU" in str(strategy.diagnostics()["warnings"])


def test_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs pictures"):
        _begun(_task(tmp_path, inputs=torch.zeros(32, 5)))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("mode", "both"),
        ("gamma", 0.5),
        ("form", "wasserstein"),
        ("beta", -1.0),
        ("blocks", 0),
        ("gan_steps", 1.5),
        ("gan_batch", 0),
        ("gan_learning_rate", 0.0),
        ("grid_every", -1),
    ],
)
def test_what_cannot_be_is_refused(option: str, value: float | str) -> None:
    with pytest.raises(ConfigError, match=f"found .*{option}"):
        JointGeneration(**{option: value})  # type: ignore[arg-type]


def test_generators_are_light_for_small_pictures_only(tmp_path: Path) -> None:
    task = _task(tmp_path)
    light = {"blocks": None, "width": None, "mode": "alt"}
    small = _begun(task, **light)
    assert (small.config.blocks, small.config.width, small.config.skip) == (3, 16, True)
    large = JointGeneration(mode="alt")
    assert (large.sized(72).blocks, large.sized(72).width, large.sized(72).skip) == (9, 64, False)
