from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from models.errors import Diverged
from models.networks.cyclegan import PatchDiscriminator, ResNetGenerator, halvings_for
from models.rebalancing.translation import (
    ImagePool,
    TranslationConfig,
    TranslationPair,
    check,
    decayed,
    frozen,
    train_pair,
    vary,
    write_grid,
)

CPU = torch.device("cpu")
CONFIG = TranslationConfig(blocks=1, width=2, batch=2, pool=3, flip=True)


class _KilledError(Exception):
    """Stands for kill -9 in the middle of the run."""


def _pictures(count: int, channel: int) -> Tensor:
    generator = torch.Generator().manual_seed(channel)
    pixels = torch.randint(0, 60, (count, 3, 8, 8), generator=generator)
    pixels[:, channel] += 150
    return pixels.byte()


def _pair(config: TranslationConfig = CONFIG, seed: int = 1) -> TranslationPair:
    return TranslationPair(config, size_px=8, device=CPU, seed=seed)


def _train(
    folder: Path, *, steps: int = 9, die_at: int | None = None, config: TranslationConfig = CONFIG
) -> TranslationPair:
    def progress(done: int, total: int, message: str = "") -> None:
        if done == die_at:
            raise _KilledError

    return train_pair(
        _pictures(6, 0),
        _pictures(4, 1),
        config=config,
        steps=steps,
        device=CPU,
        run_dir=folder,
        seed=5,
        progress=progress,
    )


def _flat(pair: TranslationPair) -> dict[str, Tensor]:
    return {f"{part}.{name}": t for part, some in pair.state().items() for name, t in some.items()}


def _same(one: TranslationPair, other: TranslationPair) -> bool:
    first, second = _flat(one), _flat(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# Networks ---------------------------------------------------------------------------------------


def test_the_published_sizes() -> None:
    generator, discriminator = ResNetGenerator(), PatchDiscriminator()
    assert sum(p.numel() for p in generator.parameters()) == 11_378_179
    assert sum(p.numel() for p in discriminator.parameters()) == 2_764_737


@pytest.mark.parametrize("shape", [(8, 8), (9, 14)])
@pytest.mark.parametrize("skip", [False, True])
def test_a_generator_keeps_the_size(shape: tuple[int, int], skip: bool) -> None:
    images = torch.rand(2, 3, *shape) * 2 - 1
    translated = ResNetGenerator(blocks=1, width=2, skip=skip)(images)
    assert translated.shape == images.shape
    assert translated.abs().max() <= 1


def test_with_a_skip_pictures_are_left_almost_as_they_are_at_first() -> None:
    torch.manual_seed(0)
    images = torch.tensor([-1.0, -0.3, 0.0, 0.8, 1.0, 0.1, 0.5, -0.7]).expand(1, 3, 8, 8)
    translated = ResNetGenerator(blocks=1, width=2, skip=True)(images)
    assert (translated - images).abs().mean() < 0.1


@pytest.mark.parametrize(("halvings", "seen"), [(1, 16), (2, 34), (3, 70)])
def test_a_discriminator_sees_patches(halvings: int, seen: int) -> None:
    """A score in the middle depends on as many rows of pixels as published."""
    network = PatchDiscriminator(halvings=halvings, width=1)
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for name, layer in module.named_children():
                if isinstance(layer, nn.InstanceNorm2d | nn.LeakyReLU):
                    setattr(module, name, nn.Identity())  # which would see the whole picture
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
    images = torch.zeros(1, 3, 96, 96, requires_grad=True)
    scores = network(images)
    middle = scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2]
    (slope,) = torch.autograd.grad(middle, images)
    assert int((slope[0, 0].abs().sum(dim=1) > 0).sum()) == seen


@pytest.mark.parametrize(("size_px", "halvings"), [(8, 1), (32, 2), (64, 2), (128, 3), (256, 3)])
def test_patches_grow_with_the_picture(size_px: int, halvings: int) -> None:
    assert halvings_for(size_px) == halvings


# The pool ---------------------------------------------------------------------------------------


def _numbered(*numbers: float) -> Tensor:
    return torch.tensor(numbers).view(-1, 1, 1, 1)


def test_a_pool_shows_what_is_new_until_it_is_full() -> None:
    pool = ImagePool(4)
    for first in (0.0, 2.0):
        assert torch.equal(pool.exchange(_numbered(first, first + 1)), _numbered(first, first + 1))
    assert [float(image) for image in pool.kept] == [0, 1, 2, 3]


def test_a_full_pool_shows_older_pictures_half_of_the_time_and_keeps_the_new_ones() -> None:
    torch.manual_seed(0)
    pool = ImagePool(50)
    pool.exchange(_numbered(*range(50)))
    older = 0
    for number in range(50, 1050):
        before = {float(image) for image in pool.kept}
        shown = float(pool.exchange(_numbered(number)))
        after = {float(image) for image in pool.kept}
        assert len(after) == 50
        if shown == number:
            assert after == before
        else:
            older += 1
            assert after == before - {shown} | {float(number)}
    assert 430 < older < 570


def test_a_pool_of_none_keeps_none() -> None:
    pool = ImagePool(0)
    assert torch.equal(pool.exchange(_numbered(1, 2)), _numbered(1, 2))
    assert pool.kept == []


def test_a_pool_keeps_no_gradients() -> None:
    pool = ImagePool(1)
    shown = pool.exchange(torch.ones(2, 1, 1, 1, requires_grad=True) * 2)
    assert not shown.requires_grad
    assert not pool.kept[0].requires_grad


# Steps ------------------------------------------------------------------------------------------


def test_a_step_trains_all_four_networks() -> None:
    pair = _pair()
    before = {name: value.clone() for name, value in _flat(pair).items()}
    losses = pair.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))
    assert losses.keys() == {"d", "g", "cycle", "identity"}
    assert not any(loss.requires_grad for loss in losses.values())
    for name, value in _flat(pair).items():
        if name.endswith("weight"):
            assert not torch.equal(value, before[name]), name


def test_the_discriminators_get_no_gradient_from_the_generators() -> None:
    """With a step size of 0 for all, gradients of discriminators are those of their own loss."""
    pair = _pair()
    pair.step(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), rate=0)
    own = [p.grad.clone() for p in pair.d_a.parameters() if p.grad is not None]
    assert len(own) == len(list(pair.d_a.parameters()))
    assert all(p.requires_grad for p in pair.d_a.parameters())


def test_a_teacher_changes_the_generators() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    seen: list[tuple[Tensor, Tensor]] = []

    def teacher(as_majority: Tensor, as_minority: Tensor) -> Tensor:
        seen.append((as_majority.detach(), as_minority.detach()))
        return 1000 * as_minority.mean()

    pairs = _pair(), _pair()
    losses = [pairs[0].step(a, b), pairs[1].step(a, b, teacher=teacher)]
    assert "class" in losses[1]
    assert all(bool(((t >= 0) & (t <= 1)).all()) for t in seen[0])
    ours, others = (_flat(pair) for pair in pairs)
    assert any(not torch.equal(ours[k], others[k]) for k in ours if k.startswith("g_ab"))
    assert all(torch.equal(ours[k], others[k]) for k in ours if k.startswith("d_a"))


def test_it_learns_to_translate_colours(tmp_path: Path) -> None:
    config = TranslationConfig(
        blocks=1, width=4, batch=4, skip=True, alpha=0, beta=1, learning_rate=1e-2
    )
    pair = _train(tmp_path, steps=30, config=config)
    red, green = (_pictures(count, channel) for count, channel in ((6, 0), (4, 1)))
    as_green = pair.to_minority(red.float() / 255).mean(dim=(0, 2, 3))
    as_red = pair.to_majority(green.float() / 255).mean(dim=(0, 2, 3))
    assert as_green[1] > as_green[0]
    assert as_red[0] > as_red[1]


def test_the_step_size_falls_in_the_second_half() -> None:
    rates = [decayed(step, 10) for step in range(1, 11)]
    assert rates[:6] == [1.0] * 6
    assert rates[6:] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert decayed(12, 10) == 0


def test_varied_pictures_stay_on_the_unit_interval_and_differ() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 8, 8).expand(4, 3, 8, 8)
    varied = vary(images, flip=True)
    assert varied.shape == images.shape
    assert varied.min() >= 0
    assert varied.max() <= 1
    assert not torch.equal(varied[0], varied[1])


def test_a_diverged_training_is_refused() -> None:
    with pytest.raises(Diverged, match="smaller learning rate"):
        check({"d": torch.tensor(float("nan"))}, "step 3")


def test_frozen_networks_let_gradients_through_and_are_as_before() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    network[0].bias.requires_grad_(False)
    network[2].eval()
    inputs = torch.rand(3, 2, requires_grad=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with frozen(network):
        network(inputs).sum().backward()
        assert not network[1].training
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
    assert all(p.grad is None for p in network.parameters())
    assert [p.requires_grad for p in network.parameters()] == [True, False, True, True]
    assert [m.training for m in network] == [True, True, False]
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


# Runs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("die_at", [1, 4, 9])
def test_a_killed_run_ends_with_the_same_bits(die_at: int, tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole")
    with pytest.raises(_KilledError):
        _train(tmp_path / "killed", die_at=die_at)
    assert _same(_train(tmp_path / "killed"), whole)


def test_a_finished_run_is_read_only(tmp_path: Path) -> None:
    whole = _train(tmp_path)
    told = (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns
    assert _same(_train(tmp_path, die_at=9), whole)
    assert (tmp_path / "checkpoint.safetensors").stat().st_mtime_ns == told


def test_another_run_in_the_folder_is_not_taken_up(tmp_path: Path) -> None:
    _train(tmp_path / "one", steps=3)
    other = _train(tmp_path / "one", steps=6)
    assert _same(other, _train(tmp_path / "other", steps=6))


def test_a_damaged_checkpoint_is_not_taken_up(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole")
    _train(tmp_path / "damaged")
    (tmp_path / "damaged" / "checkpoint.safetensors").write_bytes(b"not a checkpoint")
    assert _same(_train(tmp_path / "damaged"), whole)


def test_training_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    _train(tmp_path, steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_are_written_as_a_grid(tmp_path: Path) -> None:
    _train(tmp_path)  # three epochs of three steps
    names = sorted(path.name for path in tmp_path.glob("*.png"))
    assert names == ["samples-000003.png", "samples-000006.png", "samples-000009.png"]
    with Image.open(tmp_path / names[-1]) as grid:
        assert grid.size == (8 * 8, 6 * 8)


def test_a_grid_shows_the_pictures_themselves(tmp_path: Path) -> None:
    red, green = _pictures(6, 0), _pictures(4, 1)
    write_grid(_pair(), red, green, tmp_path / "new" / "grid.png")
    with Image.open(tmp_path / "new" / "grid.png") as grid:
        assert grid.getpixel((0, 0)) == tuple(red[0, :, 0, 0].tolist())
        assert grid.getpixel((8, 3 * 8)) == tuple(green[1, :, 0, 0].tolist())
        assert grid.getpixel((7 * 8, 0)) == (255, 255, 255), "fewer pictures leave white"
