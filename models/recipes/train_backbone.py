"""Train a first frozen model from scratch on the labels at hand.

Few labels (a hundred to a few thousand) are seen often: classes are drawn alike, and each picture
is shifted, turned and scaled a little each time. The step size is constant until the loss is low
enough, then falls to 0 over a few steps. Every random number is a function of seed and step, so
a run killed at any point resumes to the same result.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from models.backbones import Backbone, BackboneSpec, load_backbone
from models.config import BootstrapConfig
from models.devices import own_random_state
from models.errors import ModelError, NotEnoughLabels, ShapeError
from models.recipes.checkpoint import (
    cut_metrics,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

_CHECKPOINT = "checkpoint.safetensors"
_METRICS = "metrics.jsonl"
_SHIFT, _TURN, _ZOOM, _SHEAR = 0.06, 0.2, 0.12, 0.15  # of the side, radians, share, share
_SMOOTHING = 0.9


@dataclass
class _State:
    """What a resume needs beside weights and Adam's moments."""

    step: int = 0
    loss: float = math.inf  # running mean
    last_step: int = 0  # where the training ends, known once the step size falls


def train_backbone(
    images: Sequence[Image.Image],
    targets: Sequence[int],
    *,
    class_names: Sequence[str],
    spec: BackboneSpec,
    config: BootstrapConfig,
    run_dir: Path,
    seed: int,
    progress: Progress = no_progress,
) -> Backbone:
    """Train ``spec.architecture`` on labeled pictures.

    Args:
        images: N pictures.
        targets: N indices into ``class_names``.
        class_names: what the head will tell apart.
        spec: architecture, feature layer and input size; its weights are not read.
        config: budget in optimiser steps.
        run_dir: checkpoints and ``metrics.jsonl`` go here; what lies there is resumed.
        seed: of everything random.
        progress: told after each step.
    Returns: the trained model, frozen.

    Raises:
        NotEnoughLabels: if fewer than two classes have labels.
        ShapeError: if there is not one target in [0, K) for each picture.
        ModelError: if the training diverged.
    """
    names = tuple(class_names)
    labels = torch.tensor(list(targets), dtype=torch.int64)
    if len(labels) != len(images) or not all(0 <= int(y) < len(names) for y in labels):
        raise ShapeError(
            f"found {len(images)} pictures and {len(labels)} targets; expected one target in "
            f"[0, {len(names)}) for each picture"
        )
    if len(set(labels.tolist())) < 2:
        raise NotEnoughLabels("a first model needs labels of two classes at least")
    blank = load_backbone(
        spec.model_copy(
            update={
                "weights": "none",
                "class_names": names,
                "num_classes": len(names),
                "seed": seed,
            }
        ),
        device=config.device,
    )
    # Half precision holds 8-bit pixels to a thousandth and halves the memory.
    pictures = torch.stack([blank.preprocess(image).half() for image in images])
    network = blank.network.requires_grad_(True)
    _train(network, pictures, labels, config=config, run_dir=run_dir, seed=seed, progress=progress)
    return Backbone(
        network, spec=blank.spec, recipe=blank.recipe, class_names=names, device=config.device
    )


def _train(
    network: nn.Module,
    pictures: Tensor,
    labels: Tensor,
    *,
    config: BootstrapConfig,
    run_dir: Path,
    seed: int,
    progress: Progress,
) -> None:
    device = torch.device(config.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    run_dir.mkdir(parents=True, exist_ok=True)
    state = _resume(run_dir, network, optimiser) or _State()
    cut_metrics(run_dir / _METRICS, "step", after=state.step)
    counts = torch.bincount(labels).clamp_min(1)
    chances = (1.0 / counts.double())[labels]
    network.train()
    with (run_dir / _METRICS).open("a") as metrics, own_random_state(device):
        while state.step < (state.last_step or config.steps):
            step = state.step + 1
            torch.manual_seed(seed * 1_000_003 + step)
            _set_step_size(optimiser, state, config)
            rows = torch.multinomial(chances, config.batch, replacement=True)
            batch = _vary(pictures[rows].float(), flip=config.horizontal_flip).to(device)
            loss = F.cross_entropy(network(batch), labels[rows].to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            optimiser.step()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ModelError(f"the training diverged at step {step}: loss {value}")
            _note(state, step, value, config)
            metrics.write(json.dumps({"step": step, "loss": value, "mean": state.loss}) + "\n")
            total = state.last_step or config.steps
            progress(step, total, f"loss {state.loss:.3f}")
            if step % config.checkpoint_every == 0 or step == total:
                metrics.flush()
                _save(run_dir, network, optimiser, state)
    network.eval()


def _note(state: _State, step: int, loss: float, config: BootstrapConfig) -> None:
    """Remember the step, and decide whether the step size may fall."""
    first = not math.isfinite(state.loss)
    state.step = step
    state.loss = loss if first else _SMOOTHING * state.loss + (1 - _SMOOTHING) * loss
    if state.last_step:
        return
    enough = step >= config.least_steps and state.loss < config.enough_loss
    if enough or step >= config.steps - config.cool_down:
        state.last_step = min(config.steps, step + config.cool_down)


def _set_step_size(
    optimiser: torch.optim.Optimizer, state: _State, config: BootstrapConfig
) -> None:
    left = (state.last_step - state.step) / config.cool_down if state.last_step else 1.0
    size = config.learning_rate * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))
    for group in optimiser.param_groups:
        group["lr"] = size


def _vary(batch: Tensor, *, flip: bool) -> Tensor:
    """Shift, turn, zoom and shear each picture a little; edges are continued."""
    size = len(batch)

    def draw(most: float) -> Tensor:
        return (torch.rand(size) * 2 - 1) * most

    turn, zoom = draw(_TURN), 1 + draw(_ZOOM)
    maps = torch.zeros(size, 2, 3)
    maps[:, 0, 0] = turn.cos() * zoom
    maps[:, 0, 1] = -turn.sin() * zoom + draw(_SHEAR)
    maps[:, 1, 0] = turn.sin() * zoom
    maps[:, 1, 1] = turn.cos() * zoom
    # The grid spans [-1, 1]: a shift of the side's share is twice that there.
    maps[:, 0, 2], maps[:, 1, 2] = draw(2 * _SHIFT), draw(2 * _SHIFT)
    if flip:
        maps[:, 0] *= torch.where(torch.rand(size) < 0.5, -1.0, 1.0)[:, None]
    grid = F.affine_grid(maps, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, align_corners=False, padding_mode="border")


def _save(
    run_dir: Path, network: nn.Module, optimiser: torch.optim.Optimizer, state: _State
) -> None:
    parts = {"network": network.state_dict(), "adam": optimiser_tensors(optimiser)}
    save_checkpoint(run_dir / _CHECKPOINT, parts, vars(state))


def _resume(run_dir: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> _State | None:
    """Take back the last checkpoint; None where there is none that can be read."""
    found = read_checkpoint(run_dir / _CHECKPOINT)
    if found is None:
        return None
    parts, about = found
    try:
        state = _State(**about)
        network.load_state_dict(parts.get("network", {}))
    except (TypeError, RuntimeError) as error:
        logger.warning(
            "the checkpoint in %s is of no use, training starts anew: %s", run_dir, error
        )
        return None
    restore_optimiser(optimiser, parts.get("adam", {}))
    logger.info("resuming %s at step %s", run_dir, state.step)
    return state
