"""The one training loop of fine-tunes: any network, any rebalancing strategy, any kind of label.

Lightning Fabric places networks and chooses the precision; strategies (models/rebalancing) fill
hooks; what differs between pictures with a class and pictures with boxes is in a ``Teaching``.
Every random number is a function of seed and epoch and the state is kept at the ends of epochs, so
a run killed at any point resumes to the same result, on the CPU to the same bits.

In the run directory: ``config.json``, ``metrics.jsonl`` (one line an epoch) and
``checkpoint.safetensors``; ``reference/`` holds the same of g where a strategy needs it.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from models.config import FinetuneConfig
from models.devices import own_random_state
from models.errors import Diverged
from models.files import write_text
from models.rebalancing import make_strategy
from models.rebalancing.base import Strategy, Task, batches_of
from models.recipes.checkpoint import (
    cut_metrics,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from models.recipes.schedules import step_size_factor
from models.recipes.teaching import Teaching
from models.types import Progress

logger = logging.getLogger(__name__)

CHECKPOINT, METRICS, CONFIG = "checkpoint.safetensors", "metrics.jsonl", "config.json"
_LOOK_EVERY = 20  # steps between looks whether the loss is finite, which wait for the device


class Loop:
    """One training, from its first or its last checkpoint on.

    Args:
        network: as ``teaching`` runs it.
        frozen: modules of it that stay in evaluation mode.
        teaching: what is learned from, before the strategy has changed it.
        strategy: fills the hooks.
        config: budget, step sizes.
        run_dir: what lies there of the same run is resumed.
        seed: of everything random.
        progress: told after each step.
    """

    def __init__(
        self,
        network: nn.Module,
        frozen: list[nn.Module],
        teaching: Teaching,
        strategy: Strategy,
        config: FinetuneConfig,
        run_dir: Path,
        seed: int,
        progress: Progress,
    ) -> None:
        self.config, self.run_dir, self.seed, self.progress = config, run_dir, seed, progress
        self.strategy, self.frozen = strategy, frozen
        self.teaching = teaching.prepared(strategy, seed)
        self.validates = bool(config.patience) and teaching.validates
        self.targets = self.teaching.targets
        self.steps = batches_of(len(self.targets), config.batch)
        self.epochs = max(config.epochs, math.ceil(config.min_steps / self.steps))
        self.fabric = _fabric(config)
        self.device = self.fabric.device
        self.network = network.to(self.device)
        if self.teaching.pictures:
            self.network.to(memory_format=torch.channels_last)
        self._write_config()
        inputs = self.teaching.inputs
        features = None if self.teaching.pictures else inputs
        self.task = Task(
            inputs=inputs,
            targets=self.targets,
            class_names=self.teaching.class_names,
            epochs=self.epochs,
            batch=config.batch,
            seed=seed,
            device=self.device,
            run_dir=run_dir,
            train_reference=(
                partial(self._reference, teaching) if strategy.needs_reference else None
            ),
            low=0.0 if features is None else features.amin(dim=0).to(self.device),
            high=1.0 if features is None else features.amax(dim=0).to(self.device),
            holds=self.teaching.holds,
            progress=progress,
        )
        strategy.begin(self.task)
        parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimiser: torch.optim.Optimizer
        if config.optimiser == "sgd":
            self.optimiser = torch.optim.SGD(
                parameters, lr=config.learning_rate, momentum=0.9, weight_decay=config.weight_decay
            )
        else:
            self.optimiser = torch.optim.AdamW(
                parameters, lr=config.learning_rate, weight_decay=config.weight_decay
            )
        self.forward, self.optimiser = self.fabric.setup(self.network, self.optimiser)
        self.done, self.seconds = 0, 0.0
        self.best, self.best_epoch, self.best_weights = -1.0, -1, dict[str, Tensor]()

    def run(self) -> tuple[int, int, float]:
        """Train to the end: epochs made, the epoch whose weights are kept, seconds."""
        self._resume()
        saved_at, saved = time.monotonic(), self.done
        metrics_path = self.run_dir / METRICS
        cut_metrics(metrics_path, "epoch", after=self.done - 1)
        with own_random_state(self.device):
            while self.done < self.epochs and not self._has_stopped():
                began = time.monotonic()
                line = self._epoch(self.done)
                self.done += 1
                self.seconds += time.monotonic() - began
                with metrics_path.open("a") as metrics:
                    metrics.write(json.dumps(line) + "\n")
                last = self.done == self.epochs or self._has_stopped()
                if last or time.monotonic() - saved_at >= self.config.checkpoint_every_s:
                    self._save()
                    saved_at, saved = time.monotonic(), self.done
        if saved < self.done:
            self._save()
        chosen = self.done - 1
        if self.best_weights and self.best_epoch >= self.strategy.mature_epoch():
            self.network.load_state_dict(self.best_weights)
            chosen = self.best_epoch
        return self.done, chosen, self.seconds

    def _epoch(self, epoch: int) -> dict[str, object]:
        torch.manual_seed(self.seed * 1_000_003 + epoch)
        began = time.monotonic()
        self.network.train()
        for module in self.frozen:
            module.training = False  # not what lies inside: that may be trained
        criterion = self.strategy.make_criterion(epoch)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        seen = 0
        for step, rows in enumerate(self._rows(epoch)):
            self._set_step_size(epoch * self.steps + step)
            batch = self.teaching.batch(rows, epoch, self.device)
            with self.fabric.autocast():
                batch = self.strategy.transform_batch(batch, self.network)
            loss = self.teaching.loss(self.forward, batch, criterion)
            self.optimiser.zero_grad()
            self.fabric.backward(loss)
            if self.config.clip:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip)
            self.optimiser.step()
            self.strategy.auxiliary_step(batch, self.network)
            total += loss.detach().double() * len(rows)
            seen += len(rows)
            if step % _LOOK_EVERY == 0:
                self._check(total, epoch)
            self._tell(epoch, step, began)
        self._check(total, epoch)
        spent = time.monotonic() - began
        said = None
        if self.strategy.needs_probabilities:
            with self.fabric.autocast():
                said = self.teaching.said(self.network, self.device)
        self.strategy.on_epoch_end(epoch, said)
        line: dict[str, object] = {
            "epoch": epoch,
            "loss": float(total) / max(seen, 1),
            "step_size": self.optimiser.param_groups[0]["lr"],
            "examples": seen,
            "train_s": round(spent, 3),
        }
        line |= self._validate(epoch)
        line |= self.strategy.diagnostics()
        line["epoch_s"] = round(time.monotonic() - began, 3)
        return line

    def _rows(self, epoch: int) -> Iterator[Tensor]:
        weights = self.strategy.make_sampler(epoch)
        count = len(self.targets)
        if weights is None:
            order = torch.randperm(count)
        else:
            order = torch.multinomial(weights.double(), count, replacement=True)
        parts = list(torch.split(order, self.config.batch))
        if len(parts) > 1 and len(parts[-1]) < 2:
            # One example alone has no statistics for batch normalisation.
            parts[-2:] = [torch.cat(parts[-2:])]
        yield from parts

    def _validate(self, epoch: int) -> dict[str, object]:
        if not self.validates:
            return {}
        with self.fabric.autocast():
            found = self.teaching.worth(self.network, self.device, self.strategy)
        if epoch >= self.strategy.mature_epoch() and found > self.best:
            self.best, self.best_epoch = found, epoch
            state = self.network.state_dict()
            self.best_weights = {name: value.detach().clone() for name, value in state.items()}
        return {f"validation_{self.teaching.worth_name}": found}

    def _has_stopped(self) -> bool:
        if not self.validates or self.best_epoch < 0:
            return False
        return self.done - 1 - self.best_epoch >= self.config.patience

    def _check(self, total: Tensor, epoch: int) -> None:
        if not math.isfinite(float(total)):
            raise Diverged(
                f"the training diverged in epoch {epoch + 1}: its loss is not finite any more; "
                f"take a step size smaller than {self.config.learning_rate:g}"
            )

    def _set_step_size(self, step: int) -> None:
        factor = step_size_factor(
            self.config.schedule,
            warm_up=self.config.warm_up,
            step=step,
            steps=self.steps,
            epochs=self.epochs,
        )
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * factor

    def _tell(self, epoch: int, step: int, began: float) -> None:
        here = epoch + (step + 1) / self.steps
        spent = self.seconds + time.monotonic() - began
        left = spent / here * (self.epochs - here)
        self.progress(
            epoch * self.steps + step + 1,
            self.epochs * self.steps,
            f"epoch {epoch + 1} of {self.epochs}, {_duration(left)} left",
        )

    def _reference(self, teaching: Teaching) -> nn.Module:
        """g: this network trained by erm on the same examples, frozen."""
        network = copy.deepcopy(self.network)
        config = self.config.model_copy(update={"strategy": "erm", "options": {}})
        tell = self.progress

        def progress(done: int, total: int, message: str = "") -> None:
            tell(done, total, f"network g first: {message}")

        loop = Loop(
            network,
            [],
            teaching,
            make_strategy("erm", {}),
            config,
            self.run_dir / "reference",
            self.seed,
            progress,
        )
        loop.frozen = _same_modules(self.network, network, self.frozen)
        loop.run()
        return loop.network.eval().requires_grad_(False)

    # Keeping ----------------------------------------------------------------------------------

    def _write_config(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        about = self.config.model_dump() | {"seed": self.seed, "examples": len(self.targets)}
        write_text(self.run_dir / CONFIG, json.dumps(about, indent=1))

    def _about(self) -> dict[str, object]:
        """What must be the same for a checkpoint to be of this run."""
        asked = self.config.model_dump(exclude={"checkpoint_every_s", "device", "precision"})
        return {"config": asked, "seed": self.seed, "examples": len(self.targets)}

    def _save(self) -> None:
        save_checkpoint(
            self.run_dir / CHECKPOINT,
            {
                "network": self.network.state_dict(),
                "optimiser": optimiser_tensors(self.optimiser),
                "strategy": self.strategy.state_dict(),
                "best": self.best_weights,
            },
            self._about()
            | {
                "epoch": self.done,
                "seconds": self.seconds,
                "best": self.best,
                "best_epoch": self.best_epoch,
            },
        )

    def _resume(self) -> None:
        found = read_checkpoint(self.run_dir / CHECKPOINT)
        if found is None:
            return
        parts, about = found
        if {key: about.get(key) for key in self._about()} != json.loads(json.dumps(self._about())):
            logger.warning("%s holds another run's checkpoint; it starts anew", self.run_dir)
            return
        self.network.load_state_dict(parts["network"])
        restore_optimiser(self.optimiser, parts.get("optimiser", {}))
        self.strategy.load_state_dict(parts.get("strategy", {}))
        self.best_weights = parts.get("best", {})
        self.best, self.best_epoch = float(about["best"]), int(about["best_epoch"])
        self.done, self.seconds = int(about["epoch"]), float(about["seconds"])
        logger.info("resuming %s after epoch %s", self.run_dir, self.done)


def _fabric(config: FinetuneConfig) -> Fabric:
    device = torch.device(config.device)
    cuda = device.type == "cuda"
    half = config.precision == "bf16" or (
        config.precision == "auto" and cuda and torch.cuda.is_bf16_supported()
    )
    return Fabric(
        accelerator="cuda" if cuda else "cpu",
        devices=[device.index or 0] if cuda else 1,
        precision="bf16-mixed" if half else "32-true",
    )


def _same_modules(of: nn.Module, copied: nn.Module, chosen: list[nn.Module]) -> list[nn.Module]:
    """The copies of some modules."""
    wanted = {id(module) for module in chosen}
    pairs = zip(of.modules(), copied.modules(), strict=True)
    return [copy for original, copy in pairs if id(original) in wanted]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
