"""The re-calibration layer over all anchors: the paper's form, from cached tower outputs.

The towers are computed once for each labeled picture; then only the last convolution, made anew, is
trained on them with RetinaNet's sigmoid focal loss, and stops early on pictures held out. The loop
of the service trains the same layer on the detections that it keeps instead
(``models.detection.recalibration``), which needs no picture.
Source: METHODS section 2, detection head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from models.backbones.detector import Detector, extents
from models.config import RecalibrationConfig
from models.detection.boxes import Boxes
from models.detection.recalibration import RecalibratedConvolution
from models.detection.targets import placed, target_of
from models.devices import own_random_state
from models.errors import NotEnoughLabels, ShapeError
from models.networks.retinanet import reset

_BATCH, _LEARNING_RATE, _HOLD_OUT = 8, 1e-3, 0.1


def recalibrate_detector(
    detector: Detector,
    pixels: Tensor,
    boxes: Sequence[Boxes],
    *,
    config: RecalibrationConfig | None = None,
    seed: int = 0,
    stages: Sequence[Tensor] | None = None,
) -> RecalibratedConvolution:
    """Train a fresh last convolution; the detector itself stays as it is, bit for bit.

    Args:
        detector: the frozen one.
        pixels: (N, 4, S, S) uint8, as ``Detector.pixels`` gives them.
        boxes: what each holds.
        config: budget: ``epochs``, ``min_steps``, ``patience``, ``gamma``.
        seed: of weights, batches and hold-out.
        stages: the trunk's maps of these pictures, (N, C, h, w) each, where they are known.

    Raises:
        ShapeError: if there is not one set of boxes for each picture.
        NotEnoughLabels: if no picture holds a box of the detector's classes.
    """
    config = config or RecalibrationConfig(form="paper")
    if len(pixels) != len(boxes):
        raise ShapeError(f"found {len(pixels)} pictures and {len(boxes)} sets of boxes")
    if not any(box.label in detector.class_names for some in boxes for box in some):
        raise NotEnoughLabels(
            f"found no box of {', '.join(detector.class_names)} in {len(boxes)} labeled pictures"
        )
    with own_random_state(detector.device):
        torch.manual_seed(seed)
        towers = _towers(detector, pixels, stages)
        wanted = _wanted(detector, pixels, boxes)
        layer = copy.deepcopy(detector.network.last_convolution).requires_grad_(True)
        reset(layer)
        kept = _train(detector, layer, towers, wanted, config)
    weight, bias = kept
    classes = len(detector.class_names)
    # (A * K, C, 3, 3) as a matrix over what unfold gives: channels outside, places inside.
    flat = weight.reshape(len(weight), -1).T.contiguous()
    return RecalibratedConvolution(flat.cpu().numpy(), bias.cpu().numpy(), classes)


def _towers(
    detector: Detector, pixels: Tensor, stages: Sequence[Tensor] | None
) -> list[list[Tensor]]:
    """For each picture each level's (C, h, w), float16."""
    found: list[list[Tensor]] = []
    for start in range(0, len(pixels), _BATCH):
        here = slice(start, start + _BATCH)
        known = None
        if stages is not None:
            known = [level[here].float().to(detector.device) for level in stages]
        pictures = detector.scaled(pixels[here])[:, :3].to(detector.device)
        with torch.inference_mode():
            looked = detector.network.look(pictures, stages=known)
        found += [
            [level[row].half().clone() for level in looked.towers] for row in range(len(pictures))
        ]
    return found


def _wanted(detector: Detector, pixels: Tensor, boxes: Sequence[Boxes]) -> list[Tensor]:
    """For each picture (M,) class of each anchor; -1 background, -2 teaches nothing."""
    anchors = detector.network.anchors_of(detector.input_size)
    extent = extents(pixels)
    found = []
    for number, some in enumerate(boxes):
        target = placed(
            target_of(some, class_names=detector.class_names, extent=extent[number]),
            detector.device,
        )
        rows = detector.network.matches([target], [anchors])[0]
        classes = rows.clone()
        if len(target["labels"]):
            classes[rows >= 0] = target["labels"][rows[rows >= 0]]
        found.append(classes)
    return found


def _train(
    detector: Detector,
    layer: nn.Conv2d,
    towers: list[list[Tensor]],
    wanted: list[Tensor],
    config: RecalibrationConfig,
) -> tuple[Tensor, Tensor]:
    """Adam in epochs; the weights of the epoch that did best on the pictures held out."""
    optimiser = torch.optim.Adam(layer.parameters(), lr=_LEARNING_RATE)
    order = torch.randperm(len(towers))
    held = order[: round(_HOLD_OUT * len(towers))]
    rows = order[len(held) :]

    def loss(some: Tensor) -> Tensor:
        levels = [torch.stack([towers[row][n] for row in some]) for n in range(len(towers[0]))]
        said = torch.cat([detector.network.flat(layer(level.float())) for level in levels], dim=1)
        classes = torch.stack([wanted[row] for row in some])
        truth = torch.zeros_like(said)
        image, anchor = torch.nonzero(classes >= 0, as_tuple=True)
        truth[image, anchor, classes[image, anchor]] = 1.0
        teaches = classes > -2
        summed = sigmoid_focal_loss(
            said[teaches], truth[teaches], gamma=config.gamma, reduction="sum"
        )
        found: Tensor = summed / truth.sum().clamp_min(1.0)
        return found

    def state() -> tuple[Tensor, Tensor]:
        bias = layer.bias if layer.bias is not None else torch.zeros(len(layer.weight))
        return layer.weight.detach().clone(), bias.detach().clone()

    per_epoch = math.ceil(len(rows) / _BATCH)
    passes = max(1, math.ceil(config.min_steps / (per_epoch * config.epochs)))
    best, least, waited = state(), math.inf, 0
    for _ in range(config.epochs):
        for _ in range(passes):
            for batch in torch.split(rows[torch.randperm(len(rows))], _BATCH):
                optimiser.zero_grad()
                loss(batch).backward()  # type: ignore[no-untyped-call, unused-ignore]
                optimiser.step()
        if not len(held):
            continue
        with torch.no_grad():
            found = sum(float(loss(some)) * len(some) for some in torch.split(held, _BATCH))
        if found < least:
            best, least, waited = state(), found, 0
            continue
        waited += 1
        if waited >= config.patience:
            break
    return best if len(held) else state()
