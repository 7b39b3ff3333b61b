"""Joint generation and classification: rare pictures made from common ones by CycleGANs.

Each tail class has a partner, the majority class that the network g takes it for most often, and a
CycleGAN that translates between the two. Each batch gets the translations of its pictures, and the
terms of majority classes are divided by gamma:

- ``aug``: the CycleGAN learns once by its own losses, before the first epoch, and is frozen;
- ``alt``: discriminators, classifier and generators take turns in each step, and the classifier
  teaches the generators too.

With two classes this is the paper; one CycleGAN for each of several tail classes is our extension.

Source: Sahoo et al. 2020, arXiv:2008.05524; METHODS section 13.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from models.errors import ConfigError
from models.rebalancing.base import Batch, Criterion, Strategy, Task, batches_of
from models.rebalancing.class_weights import weighted_cross_entropy
from models.rebalancing.options import require
from models.rebalancing.partners import Partners, choose_partners
from models.rebalancing.translation import (
    Teacher,
    TranslationConfig,
    TranslationPair,
    check,
    decayed,
    draw,
    frozen,
    train_pair,
    write_grid,
)
from models.rebalancing.translation_losses import class_term, joint_class_loss

logger = logging.getLogger(__name__)

_WARN_PX, _REFUSE_PX = 64, 128  # on a CPU
_LIGHT_PX = 64  # up to here, the generators are light ones unless asked otherwise
_PUBLISHED_EPOCHS = 200
_FOLDER = "joint_generation"


class JointGeneration(Strategy):
    """CycleGANs between tail classes and the classes they are taken for.

    Args:
        mode: ``aug`` or ``alt``.
        gamma: what terms of majority classes are divided by, >= 1; 0: N_A / N_B, at most 100. The
            sampler shows both alike already, so more than 1 errs on the side of the tail.
        form: of the adversarial loss, ``least_squares`` or ``log``.
        alpha: weight of the identity loss.
        beta: weight of the cycle loss.
        blocks, width: of the generators; None: 9 and 64 as published, 3 and 16 up to 64 px.
        skip: generators learn what to change only; None: up to 64 px.
        gan_steps: of each CycleGAN; None: 200 passes over the majority, as published. Not for
            ``alt``, whose steps are the classifier's.
        gan_batch: pictures of each class in a step of a CycleGAN.
        gan_learning_rate: of its optimisers.
        gan_every: steps of the classifier for one of the CycleGANs (``alt``).
        flip: the CycleGAN sees pictures mirrored too; ruins digits and text.
        tail: names of the tail classes, separated by commas; empty: the smaller of two classes, or
            those with a skewness ratio below .30.
        grid_every: passes (``aug``) or epochs (``alt``) between pictures of samples; 0: ten in all.
    """

    needs_pictures = True
    needs_reference = True

    def __init__(
        self,
        *,
        mode: str = "aug",
        gamma: float = 1.0,
        form: str = "least_squares",
        alpha: float = 5.0,
        beta: float = 10.0,
        blocks: int | None = None,
        width: int | None = None,
        skip: bool | None = None,
        gan_steps: int | None = None,
        gan_batch: int = 1,
        gan_learning_rate: float = 2e-4,
        gan_every: int = 1,
        flip: bool = False,
        tail: str = "",
        grid_every: int = 0,
    ) -> None:
        require(mode in ("aug", "alt"), "mode", mode, "aug or alt")
        require(gamma == 0 or gamma >= 1, "gamma", gamma, "a number >= 1, or 0")
        require(min(alpha, beta) >= 0, "alpha, beta", (alpha, beta), "numbers >= 0")
        require(gan_learning_rate > 0, "gan_learning_rate", gan_learning_rate, "a number > 0")
        for name, value in (
            ("blocks", blocks),
            ("width", width),
            ("gan_steps", gan_steps),
            ("gan_batch", gan_batch),
            ("gan_every", gan_every),
        ):
            whole = value is None or (value >= 1 and int(value) == value)
            require(whole, name, value, "a whole number >= 1")
        require(grid_every >= 0, "grid_every", grid_every, "a whole number >= 0")
        self.mode, self.gamma = mode, gamma or None
        require(form in ("least_squares", "log"), "form", form, "least_squares or log")
        self.config = TranslationConfig(
            alpha=alpha,
            beta=beta,
            batch=int(gan_batch),
            learning_rate=gan_learning_rate,
            form="log" if form == "log" else "least_squares",
            flip=flip,
        )
        self.blocks, self.width, self.skip = _whole(blocks), _whole(width), skip
        self.gan_steps, self.gan_every = _whole(gan_steps), int(gan_every)
        self.grid_every = int(grid_every)
        self.tail = tuple(name.strip() for name in tail.split(",") if name.strip())

    def begin(self, task: Task) -> None:
        """Choose the pairs; ``aug``: train their CycleGANs, or read what was trained.

        Raises:
            ConfigError: for features, pictures too large for this device, or an unknown class.
            NotEnoughLabels: if one of two classes, or one named as tail, has less than two labels.
        """
        super().begin(task)
        slow = _check_pictures(task)
        choice = choose_partners(
            task.counts,
            task.class_names,
            confusion=lambda: _confusion(task),
            tail=self.tail,
            gamma=self.gamma,
        )
        self.partners, self._weights = choice.partners, choice.weights.to(task.device)
        self.warnings = slow + choice.warnings if choice.partners else choice.warnings
        for warning in self.warnings:
            logger.warning("%s", warning)
        self._pictures = {
            label: task.inputs[task.targets == label]
            for pair in self.partners
            for label in (pair.minority, pair.majority)
        }
        self.config = self.sized(int(min(task.inputs.shape[-2:])))
        self.pairs = {pair: self._make(pair) for pair in self.partners}
        batches = batches_of(len(task.targets), task.batch)
        self._steps, self._step = max(1, task.epochs * batches // self.gan_every), 0
        self._batches, self._summed = 0, 0
        self._sums: dict[str, Tensor] = {}
        self._losses: dict[str, JsonValue] = {}

    def make_sampler(self, epoch: int) -> Tensor | None:
        """A tail class as often as its partner: the paper's step has one picture of each."""
        if not self.partners:
            return None
        counts, weights = self.task.counts, torch.ones(self.task.classes)
        for pair in self.partners:
            weights[pair.minority] = counts[pair.majority] / counts[pair.minority]
        return weights[self.task.targets.cpu()]

    def make_criterion(self, epoch: int) -> Criterion:
        """Cross-entropy with majority terms over gamma: real or translated, labels tell them."""
        return weighted_cross_entropy(self._weights)

    def transform_batch(self, batch: Batch, network: nn.Module) -> Batch:
        """Add translations, without gradients: of majority pictures, and of minority ones."""
        inputs, targets, rows = [batch.inputs], [batch.targets], [batch.rows]
        for pair, translation in self.pairs.items():
            for of, to, translate in (
                (pair.majority, pair.minority, translation.to_minority),
                (pair.minority, pair.majority, translation.to_majority),
            ):
                places = torch.nonzero(batch.targets == of).squeeze(1)
                if len(places):
                    inputs.append(translate(batch.inputs[places]).to(batch.inputs.dtype))
                    targets.append(torch.full_like(places, to))
                    rows.append(batch.rows[places.to(batch.rows.device)])
        return replace(
            batch, inputs=torch.cat(inputs), targets=torch.cat(targets), rows=torch.cat(rows)
        )

    def auxiliary_step(self, batch: Batch, network: nn.Module) -> None:
        """``alt``: a step of discriminators, then of generators with the classifier's loss."""
        if self.mode != "alt":
            return
        self._batches += 1
        if self._batches % self.gan_every:
            return
        self._step += 1
        rate = decayed(self._step, self._steps)
        for pair, translation in self.pairs.items():
            a, b = (
                draw(self._pictures[label], self.config, device=self.task.device)
                for label in (pair.majority, pair.minority)
            )
            with frozen(network):
                losses = translation.step(a, b, rate=rate, teacher=_teacher(network, pair))
            self._summed += 1
            for name, loss in losses.items():
                self._sums[name] = self._sums.get(name, 0) + loss

    def on_epoch_end(self, epoch: int, probabilities: Tensor | None) -> None:
        """``alt``: keep means of losses, and draw samples now and then."""
        if self.mode != "alt":
            return
        check(self._sums, f"the end of epoch {epoch + 1}")
        means = {name: float(total) / self._summed for name, total in self._sums.items()}
        self._losses = {f"gan_{name}": mean for name, mean in means.items()}
        self._sums, self._summed = {}, 0
        every = self.grid_every or max(1, round(self.task.epochs / 10))
        if (epoch + 1) % every == 0 or epoch + 1 == self.task.epochs:
            for pair, translation in self.pairs.items():
                a, b = self._pictures[pair.majority], self._pictures[pair.minority]
                write_grid(translation, a, b, self._folder(pair) / f"samples-{epoch + 1:04}.png")

    def diagnostics(self) -> dict[str, JsonValue]:
        """Pairs, what was left out and why, and losses of the CycleGANs (``alt``)."""
        names = self.task.class_names
        return {
            "pairs": {names[p.minority]: names[p.majority] for p in self.partners},
            "gamma": {names[p.minority]: p.gamma for p in self.partners},
            "warnings": list(self.warnings),
            **self._losses,
        }

    def state_dict(self) -> dict[str, Tensor]:
        """``alt``: all of the CycleGANs; those of ``aug`` have checkpoints of their own."""
        if self.mode != "alt":
            return {}
        state = {"steps": torch.tensor([self._step, self._batches])}
        for pair, translation in self.pairs.items():
            for part, tensors in translation.state().items():
                state |= {f"{pair.minority}.{part}.{name}": t for name, t in tensors.items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave."""
        if self.mode != "alt":
            return
        self._step, self._batches = (int(value) for value in state["steps"])
        parts: dict[str, dict[str, dict[str, Tensor]]] = {}
        for key, tensor in state.items():
            if key != "steps":
                label, part, name = key.split(".", 2)
                parts.setdefault(label, {}).setdefault(part, {})[name] = tensor
        for pair, translation in self.pairs.items():
            translation.load_state(parts[str(pair.minority)])

    # Beginning --------------------------------------------------------------------------------

    def sized(self, size_px: int) -> TranslationConfig:
        """Generators for pictures of this side: as asked for, light or as published."""
        light = size_px <= _LIGHT_PX
        return replace(
            self.config,
            blocks=self.blocks or (3 if light else 9),
            width=self.width or (16 if light else 64),
            skip=light if self.skip is None else self.skip,
        )

    def _make(self, pair: Partners) -> TranslationPair:
        """The pair's CycleGAN: trained and frozen, or at its first weights."""
        task = self.task
        a, b = self._pictures[pair.majority], self._pictures[pair.minority]
        size_px, seed = int(min(task.inputs.shape[-2:])), task.seed + 7919 * (pair.minority + 1)
        if self.mode == "alt":
            return TranslationPair(self.config, size_px=size_px, device=task.device, seed=seed)
        translation = train_pair(
            a,
            b,
            config=self.config,
            steps=self.gan_steps or _PUBLISHED_EPOCHS * math.ceil(len(a) / self.config.batch),
            device=task.device,
            run_dir=self._folder(pair),
            seed=seed,
            grid_every=self.grid_every,
            progress=task.progress,
        )
        translation.freeze()
        return translation

    def _folder(self, pair: Partners) -> Path:
        return self.task.run_dir / _FOLDER / f"{pair.minority}-from-{pair.majority}"


def _whole(value: int | None) -> int | None:
    return None if value is None else int(value)


def _check_pictures(task: Task) -> tuple[str, ...]:
    """Refuse what cannot be done here, and warn of what takes long."""
    if task.inputs.ndim != 4:
        raise ConfigError(
            f"joint generation needs pictures; found inputs {tuple(task.inputs.shape)}: train more "
            "than the head, or choose another strategy"
        )
    size_px = max(task.inputs.shape[-2:])
    if task.device.type != "cpu" or size_px <= _WARN_PX:
        return ()
    if size_px > _REFUSE_PX:
        raise ConfigError(
            f"joint generation of {size_px} px pictures would take weeks on a CPU; set a device "
            f"such as cuda, use pictures of {_WARN_PX} px, or choose another strategy"
        )
    return (
        f"joint generation of {size_px} px pictures is slow on a CPU: set a device such as cuda, "
        f"or use pictures of {_WARN_PX} px",
    )


@torch.no_grad()
def _confusion(task: Task, batch: int = 256) -> Tensor:
    """(K, K) shares of the examples of a class (row) by what g says of them."""
    if task.reference is None:
        raise ConfigError(
            "joint generation of more than two classes needs the network g; expected a reference "
            "in the task"
        )
    said = [
        task.reference(part.to(task.device).float() / 255).argmax(dim=1).cpu()
        for part in torch.split(task.inputs, batch)
    ]
    confusion = torch.zeros(task.classes, task.classes, dtype=torch.float64)
    ones = torch.ones(len(task.targets), dtype=torch.float64)
    confusion.index_put_((task.targets.cpu(), torch.cat(said)), ones, accumulate=True)
    return confusion / task.counts.clamp_min(1)[:, None]


def _teacher(network: nn.Module, pair: Partners) -> Teacher:
    """L_cls as far as the generators can change it: its terms of translated pictures."""

    def teacher(as_majority: Tensor, as_minority: Tensor) -> Tensor:
        return joint_class_loss(
            class_term(network(as_minority).float(), pair.minority),
            class_term(network(as_majority).float(), pair.majority),
            pair.gamma,
        )

    return teacher
