"""One CycleGAN: it learns to translate between a majority class A and a minority class B.

Two generators, two discriminators, unpaired pictures. The defaults are those of
junyanz/pytorch-CycleGAN-and-pix2pix; a step may hold several pictures of each class. Every random
number of ``train_pair`` is a function of seed and step, so a run killed at any point resumes to the
same result, on the CPU to the same bits.

Source: Zhu et al. 2017, arXiv:1703.10593; Sahoo et al. 2020, arXiv:2008.05524.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.devices import own_random_state
from models.errors import Diverged
from models.networks.cyclegan import PatchDiscriminator, ResNetGenerator, halvings_for
from models.rebalancing.translation_losses import (
    Form,
    cycle_loss,
    discriminator_loss,
    generator_loss,
    identity_loss,
)
from models.recipes.checkpoint import (
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

_BETAS = (0.5, 0.999)  # Adam's, published
_ZOOM = 256 / 286  # pictures are resized to 286 px and cropped to 256
_SAMPLES = 8  # columns of a grid of samples

#: From G_BA(b) and G_AB(a), both on [0, 1] with gradients, to what the classifier says of them.
Teacher = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TranslationConfig:
    """One CycleGAN and its training.

    Attributes:
        blocks, width, skip: of the generators; the discriminators have the same width.
        batch: pictures of each class in a step.
        learning_rate: Adam's, constant for half of the steps, then falling to 0.
        alpha: weight of the identity loss.
        beta: weight of the cycle loss.
        form: of the adversarial loss.
        pool: translated pictures that are kept for the discriminator.
        flip: mirror pictures at random; ruins digits and text.
    """

    blocks: int = 9
    width: int = 64
    skip: bool = False
    batch: int = 1
    learning_rate: float = 2e-4
    alpha: float = 5.0
    beta: float = 10.0
    form: Form = "least_squares"
    pool: int = 50
    flip: bool = False


class ImagePool:
    """Shows the discriminator older translations too, so that it does not chase the last one.

    Args:
        size: how many are kept; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: list[Tensor] = []

    def exchange(self, images: Tensor) -> Tensor:
        """(N, ...) new pictures; as many, of which about half are older ones once it is full."""
        shown = []
        for image in images.detach():
            if len(self.kept) < self.size:
                self.kept.append(image.clone())
                shown.append(image)
            elif self.size and float(torch.rand(())) < 0.5:
                place = int(torch.randint(self.size, ()))
                shown.append(self.kept[place])
                self.kept[place] = image.clone()
            else:
                shown.append(image)
        return torch.stack(shown)


class TranslationPair:
    """The four networks, their optimisers and pools.

    Args:
        config: sizes and weights.
        size_px: shorter side of the pictures.
        device: where everything is.
        seed: of the first weights.
    """

    def __init__(
        self, config: TranslationConfig, *, size_px: int, device: torch.device, seed: int
    ) -> None:
        self.config, self.device = config, device
        with own_random_state(device):
            torch.manual_seed(seed)
            generators = [
                ResNetGenerator(blocks=config.blocks, width=config.width, skip=config.skip)
                for _ in range(2)
            ]
            judges = [
                PatchDiscriminator(halvings=halvings_for(size_px), width=config.width)
                for _ in range(2)
            ]
        self.g_ab, self.g_ba = (network.to(device) for network in generators)
        self.d_a, self.d_b = (network.to(device) for network in judges)
        self.adam_g = self._adam(self.g_ab, self.g_ba)
        self.adam_d = self._adam(self.d_a, self.d_b)
        self.pool_a, self.pool_b = ImagePool(config.pool), ImagePool(config.pool)

    def _adam(self, *networks: nn.Module) -> torch.optim.Adam:
        parameters = itertools.chain.from_iterable(network.parameters() for network in networks)
        return torch.optim.Adam(parameters, lr=self.config.learning_rate, betas=_BETAS)

    @torch.no_grad()
    def to_minority(self, images: Tensor) -> Tensor:
        """G_AB: (N, 3, H, W) of the majority, on [0, 1], as the minority."""
        return _to_unit(self.g_ab(_to_signed(images)))

    @torch.no_grad()
    def to_majority(self, images: Tensor) -> Tensor:
        """G_BA: (N, 3, H, W) of the minority, on [0, 1], as the majority."""
        return _to_unit(self.g_ba(_to_signed(images)))

    def step(
        self, a: Tensor, b: Tensor, *, rate: float = 1.0, teacher: Teacher | None = None
    ) -> dict[str, Tensor]:
        """Train the discriminators, then the generators, on pictures that are not paired.

        Args:
            a: (N, 3, H, W) on [0, 1], of the majority.
            b: as many of the minority.
            rate: share of the step size.
            teacher: adds the classifier's loss to that of the generators.
        Returns: the losses, without gradients; ``d`` is the mean of the two discriminators'.
        """
        config, count = self.config, len(a)
        a, b = _to_signed(a), _to_signed(b)
        # Instance normalisation lets pictures of both kinds go through in one call.
        as_b, b_as_b = self.g_ab(torch.cat([a, b])).split(count)
        as_a, a_as_a = self.g_ba(torch.cat([b, a])).split(count)
        _set_rate(self.adam_d, config.learning_rate * rate)
        _set_rate(self.adam_g, config.learning_rate * rate)

        loss_d = 0.5 * (  # halved, as released
            discriminator_loss(self.d_a(a), self.d_a(self.pool_a.exchange(as_a)), config.form)
            + discriminator_loss(self.d_b(b), self.d_b(self.pool_b.exchange(as_b)), config.form)
        )
        _descend(self.adam_d, loss_d)

        with frozen(self.d_a, self.d_b):
            adversarial = generator_loss(self.d_a(as_a), config.form) + generator_loss(
                self.d_b(as_b), config.form
            )
        cycle = cycle_loss(a, self.g_ba(as_b)) + cycle_loss(b, self.g_ab(as_a))
        identity = identity_loss(a, a_as_a, b, b_as_b)
        loss_g = adversarial + config.beta * cycle + config.alpha * identity
        parts = {"d": loss_d, "g": adversarial, "cycle": cycle, "identity": identity}
        if teacher is not None:
            parts["class"] = teacher(_to_unit(as_a), _to_unit(as_b))
            loss_g = loss_g + parts["class"]
        _descend(self.adam_g, loss_g)
        return {name: loss.detach() for name, loss in parts.items()}

    def freeze(self) -> None:
        """No more training."""
        for network in self._networks().values():
            network.eval().requires_grad_(False)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Networks, moments of the optimisers and pools."""
        pools = {"a": self.pool_a.kept, "b": self.pool_b.kept}
        return {
            **{name: network.state_dict() for name, network in self._networks().items()},
            "adam_g": optimiser_tensors(self.adam_g),
            "adam_d": optimiser_tensors(self.adam_d),
            "pools": {name: torch.stack(kept) for name, kept in pools.items() if kept},
        }

    def load_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Take back what ``state`` gave."""
        for name, network in self._networks().items():
            network.load_state_dict(state[name])
        restore_optimiser(self.adam_g, state.get("adam_g", {}))
        restore_optimiser(self.adam_d, state.get("adam_d", {}))
        pools = state.get("pools", {})
        for name, pool in (("a", self.pool_a), ("b", self.pool_b)):
            pool.kept = [image.to(self.device) for image in pools.get(name, ())]

    def _networks(self) -> dict[str, nn.Module]:
        return {"g_ab": self.g_ab, "g_ba": self.g_ba, "d_a": self.d_a, "d_b": self.d_b}


def train_pair(
    majority: Tensor,
    minority: Tensor,
    *,
    config: TranslationConfig,
    steps: int,
    device: torch.device,
    run_dir: Path,
    seed: int,
    grid_every: int = 0,
    progress: Progress = no_progress,
) -> TranslationPair:
    """Train a CycleGAN by its own losses.

    Args:
        majority: (N_A, 3, H, W) uint8.
        minority: (N_B, 3, H, W) uint8; drawn as often as the majority, so each is seen more often.
        config: sizes and weights.
        steps: how many; published: 200 passes over the majority, of one picture a step.
        device: where to train.
        run_dir: the checkpoint and grids of samples go here; what lies there is resumed.
        seed: of everything random.
        grid_every: passes over the majority between grids of samples; 0 makes about ten in all.
        progress: told after each step.

    Raises: Diverged: if a loss is not finite any more.
    """
    size_px = int(min(majority.shape[-2:]))
    pair = TranslationPair(config, size_px=size_px, device=device, seed=seed)
    epoch = math.ceil(len(majority) / config.batch)
    every = epoch * (grid_every or max(1, round(steps / epoch / 10)))
    path, about = (
        run_dir / "checkpoint.safetensors",
        _about(config, steps, seed, majority, minority),
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    done = _resume(pair, path, about)
    sums: dict[str, Tensor] = {}
    with own_random_state(device):
        for step in range(done + 1, steps + 1):
            torch.manual_seed(seed * 1_000_003 + step)
            a, b = (draw(some, config, device=device) for some in (majority, minority))
            for name, loss in pair.step(a, b, rate=decayed(step, steps)).items():
                sums[name] = sums.get(name, 0) + loss
            progress(step, steps, "learning to translate")
            if step % epoch == 0 or step == steps:
                check(sums, f"step {step} of {steps}")
                sums.clear()
                if step % every == 0 or step == steps:
                    write_grid(pair, majority, minority, run_dir / f"samples-{step:06}.png")
                save_checkpoint(path, pair.state(), about | {"step": step})
    return pair


def draw(images: Tensor, config: TranslationConfig, *, device: torch.device) -> Tensor:
    """Some pictures at random, varied: (N, 3, H, W) uint8 to (batch, 3, H, W) on [0, 1]."""
    rows = torch.randint(len(images), (config.batch,))
    return vary(images[rows].to(device).float() / 255, flip=config.flip)


def vary(images: Tensor, *, flip: bool) -> Tensor:
    """Crop each picture at random, a little enlarged, and mirror it."""
    shift = (torch.rand(len(images), 2) * 2 - 1) * (1 - _ZOOM)
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = _ZOOM
    maps[:, :, 2] = shift
    if flip:
        maps[:, 0, 0] *= torch.where(torch.rand(len(images)) < 0.5, -1.0, 1.0)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False).to(images.device)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="reflection")


def decayed(step: int, total: int) -> float:
    """Share of the step size: 1 for the first half of the steps, then falling to 0 linearly."""
    return min(1.0, max(0.0, 2 * (total + 1 - step) / total))


def check(sums: dict[str, Tensor], where: str) -> None:
    """Log sums of losses.

    Raises: Diverged: if one is not finite.
    """
    values = {name: float(value) for name, value in sums.items()}
    if not all(math.isfinite(value) for value in values.values()):
        raise Diverged(
            f"the translation diverged before {where}: {values}; take a smaller learning rate"
        )
    logger.debug("%s: %s", where, values)


def write_grid(pair: TranslationPair, majority: Tensor, minority: Tensor, path: Path) -> None:
    """A picture of samples: A, A as B, and back; B, B as A, and back; a column for each."""
    rows = []
    for images, there, back in (
        (majority, pair.to_minority, pair.to_majority),
        (minority, pair.to_majority, pair.to_minority),
    ):
        shown = images[:_SAMPLES].to(pair.device).float() / 255
        shown = torch.cat([shown, shown.new_ones(_SAMPLES - len(shown), *shown.shape[1:])])
        translated = there(shown)
        rows += [shown, translated, back(translated)]
    lines = [torch.cat(list(images), dim=2) for images in rows]  # each (3, H, 8 W)
    pixels = torch.cat(lines, dim=1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Gradients flow through, but not into, networks in evaluation mode; then all is as before."""
    modules = [module for network in networks for module in network.modules()]
    parameters = [p for network in networks for p in network.parameters()]
    modes, wanted = [m.training for m in modules], [p.requires_grad for p in parameters]
    try:
        for network in networks:
            network.eval().requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for parameter, want in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(want)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
    optimiser.step()


def _set_rate(optimiser: torch.optim.Optimizer, size: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = size


def _resume(pair: TranslationPair, path: Path, about: dict[str, object]) -> int:
    """Steps that are done already."""
    found = read_checkpoint(path)
    if found is None:
        return 0
    parts, said = found
    step = int(said.pop("step", 0))
    if said != about:
        logger.warning("%s is of another training, this one starts anew", path)
        return 0
    pair.load_state(parts)
    return step


def _about(config: TranslationConfig, steps: int, seed: int, *images: Tensor) -> dict[str, object]:
    """What must be the same for a checkpoint to be resumed; sums of pixels stand for pictures."""
    return {
        "config": json.loads(json.dumps(asdict(config))),
        "steps": steps,
        "seed": seed,
        "pictures": [[*some.shape, int(some.sum(dtype=torch.int64))] for some in images],
    }


def _to_signed(images: Tensor) -> Tensor:
    return images * 2 - 1


def _to_unit(images: Tensor) -> Tensor:
    return images * 0.5 + 0.5
