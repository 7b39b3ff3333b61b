"""Train a detector on the boxes at hand: the first one, from a published trunk or from nothing.

The loss is RetinaNet's (sigmoid focal, alpha 0.25, gamma 2, and L1 of the boxes). A frozen trunk
is computed once for each picture and its mirror image, the rest is trained on its maps. Every
random number is a function of seed and step, so a run killed at any point resumes to the same
result.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from models.backbones.detector import Detector, DetectorSpec, load_detector
from models.config import DetectorTraining
from models.detection.boxes import Boxes
from models.devices import own_random_state
from models.errors import ImageError, ModelError, NotEnoughLabels, ShapeError
from models.networks.retinanet import Retina
from models.recipes.box_set import BoxSet, with_maps
from models.recipes.checkpoint import (
    cut_metrics,
    optimiser_tensors,
    read_checkpoint,
    restore_optimiser,
    save_checkpoint,
)
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

_CHECKPOINT, _METRICS = "checkpoint.safetensors", "metrics.jsonl"
_LAST = 0.02  # of the largest step size, at the end


def train_detector(
    images: Sequence[Image.Image],
    boxes: Sequence[Boxes],
    *,
    class_names: Sequence[str],
    spec: DetectorSpec,
    config: DetectorTraining,
    run_dir: Path,
    seed: int,
    progress: Progress = no_progress,
) -> Detector:
    """Train a detector on labeled pictures.

    Args:
        images: N pictures; each is asked for once, in order. One whose pixels cannot be decoded
            is left out, and logged.
        boxes: what each holds; none is a picture of background. Boxes without a class, or of
            another one, teach nothing.
        class_names: K classes.
        spec: trunk, its weights, input size; its classes are not read.
        config: budget.
        run_dir: checkpoints and ``metrics.jsonl`` go here; what lies there is resumed.
        seed: of everything random.
        progress: told after each step.
    Returns: the trained detector, frozen.

    Raises:
        NotEnoughLabels: if no picture holds a box of these classes.
        ShapeError: if there is not one set of boxes for each picture.
        ConfigError, WeightsError: if the trunk cannot be had.
        ModelError: if the training diverged.
    """
    if len(images) != len(boxes):
        raise ShapeError(f"found {len(images)} pictures and {len(boxes)} sets of boxes")
    _check_taught(boxes, class_names)
    blank = load_detector(
        spec.model_copy(update={"class_names": tuple(class_names), "seed": seed}),
        device=config.device,
    )
    pixels, kept = _readable(blank, images, boxes)
    _check_taught(kept, class_names)
    training = BoxSet(pixels, tuple(kept), blank.class_names)
    fit_detector(blank, training, config=config, run_dir=run_dir, seed=seed, progress=progress)
    return Detector(blank.network, spec=blank.spec, recipe=blank.recipe, device=config.device)


def _check_taught(boxes: Sequence[Boxes], class_names: Sequence[str]) -> None:
    if not any(box.label in set(class_names) for some in boxes for box in some):
        raise NotEnoughLabels(
            f"found no box of {', '.join(class_names)} in {len(boxes)} labeled pictures; draw some"
        )


def _readable(
    detector: Detector, images: Sequence[Image.Image], boxes: Sequence[Boxes]
) -> tuple[Tensor, list[Boxes]]:
    """Pictures as the detector takes them, and their boxes, without those that are damaged."""
    pixels, kept = [], []
    for number, some in enumerate(boxes):
        try:
            pixels.append(detector.pixels(images[number]))
        except ImageError as error:
            logger.warning("picture %s is left out of the training: %s", number, error)
            continue
        kept.append(some)
    size = detector.input_size
    return torch.stack(pixels) if pixels else torch.empty(0, 4, size, size), kept


def fit_detector(
    blank: Detector,
    training: BoxSet,
    *,
    config: DetectorTraining,
    run_dir: Path,
    seed: int,
    progress: Progress = no_progress,
) -> None:
    """Train the network of ``blank`` in place; see ``train_detector``.

    Args:
        blank: the detector; its device counts.
        training: pictures and boxes, over the detector's classes. Maps that it has are used where
            the trunk stays frozen, which must be the trunk that they are of.
        config: budget.
        run_dir: what lies there is resumed.
        seed: of everything random.
        progress: told after each step.
    """
    network = blank.network.requires_grad_(True)
    frozen = config.trunk == "frozen" or (
        config.trunk == "auto" and blank.spec.weights == "DEFAULT"
    )
    network.train()
    if frozen:
        network.backbone.stages.requires_grad_(False).eval()
        (training,) = with_maps(blank, [training], most_bytes=config.cache_mb * 1_000_000)
    optimiser = torch.optim.Adam(
        [p for p in network.parameters() if p.requires_grad], lr=config.learning_rate
    )
    run_dir.mkdir(parents=True, exist_ok=True)
    done = _resume(run_dir, network, optimiser)
    cut_metrics(run_dir / _METRICS, "step", after=done)
    device = blank.device
    with (run_dir / _METRICS).open("a") as metrics, own_random_state(device):
        for step in range(done + 1, config.steps + 1):
            torch.manual_seed(seed * 1_000_003 + step)
            rows = _rows(len(training), step, config.batch, seed)
            drawn = training.draw(rows, flips=config.flip, scaled=blank.scaled, device=device)
            losses = network(drawn.inputs, drawn.wanted, stages=drawn.stages)
            loss = torch.stack(list(losses.values())).sum()
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * _factor(step, config)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimiser.step()
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ModelError(
                    f"the training diverged at step {step}: loss {value}; take a step size "
                    f"smaller than {config.learning_rate:g}"
                )
            parts = {name: round(float(part.detach()), 5) for name, part in losses.items()}
            metrics.write(json.dumps({"step": step, "loss": value, **parts}) + "\n")
            progress(step, config.steps, f"loss {value:.3f}")
            if step % config.checkpoint_every == 0 or step == config.steps:
                metrics.flush()
                parts_kept = {
                    "network": network.state_dict(),
                    "adam": optimiser_tensors(optimiser),
                }
                save_checkpoint(run_dir / _CHECKPOINT, parts_kept, {"step": step})
    network.eval().requires_grad_(False)


def _rows(count: int, step: int, batch: int, seed: int) -> Tensor:
    """Which pictures a step sees: all of them once before any a second time."""
    places = torch.arange((step - 1) * batch, step * batch)
    rows = []
    for epoch in torch.unique(places // count).tolist():
        order = torch.randperm(
            count, generator=torch.Generator().manual_seed(seed * 7_919 + int(epoch))
        )
        rows.append(order[places[places // count == epoch] % count])
    return torch.cat(rows)


def _factor(step: int, config: DetectorTraining) -> float:
    """Of the largest step size: a linear rise, then half a cosine."""
    if step <= config.warm_up:
        return step / config.warm_up
    done = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return _LAST + (1 - _LAST) * 0.5 * (1 + math.cos(math.pi * done))


def _resume(run_dir: Path, network: Retina, optimiser: torch.optim.Optimizer) -> int:
    """Steps that the last checkpoint holds; 0 where there is none that can be read."""
    found = read_checkpoint(run_dir / _CHECKPOINT)
    if found is None:
        return 0
    parts, about = found
    try:
        step = int(about["step"])
        network.load_state_dict(parts.get("network", {}))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        logger.warning(
            "the checkpoint in %s is of no use, training starts anew: %s", run_dir, error
        )
        return 0
    restore_optimiser(optimiser, parts.get("adam", {}))
    logger.info("resuming %s at step %s", run_dir, step)
    return step
