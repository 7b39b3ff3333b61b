"""The re-calibration layer of a detector: its last convolution, made anew and trained alone.

The classification subnet's last convolution turns a 3x3 patch of the tower, C channels wide, into K
logits for each of A anchors. It is re-initialised and trained with the sigmoid focal loss; towers,
pyramid, trunk and boxes stay as they are, bit for bit. Two sources of what the convolution sees:
the cached patches of detections (``fit``; seconds, no picture is opened) and whole tower maps over
all anchors (``models.recipes.recalibrate_detector``; the paper's form).
Source: METHODS section 2, detection head; Lin et al. 2017 for loss and initialisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from models.config import RecalibrationConfig
from models.detection.matching import LabeledSlots
from models.detection.slots import Slots
from models.errors import NotEnoughLabels, ShapeError
from models.networks.retinanet import PRIOR
from models.types import FloatArray

_BATCH, _LEARNING_RATE, _HOLD_OUT = 64, 1e-3, 0.1
_STD = 0.01
_ROWS = 8192


class RecalibratedConvolution:
    """K logits of a detection from the patch that the last convolution saw.

    Args:
        weight: (9 * C, A * K) float32, anchors outside, classes inside.
        bias: (A * K,) float32.
        num_classes: K.
    """

    def __init__(self, weight: FloatArray, bias: FloatArray, num_classes: int) -> None:
        self.weight = np.asarray(weight, dtype=np.float32)
        self.bias = np.asarray(bias, dtype=np.float32)
        self.num_classes = num_classes

    @property
    def anchors(self) -> int:
        """A."""
        return len(self.bias) // self.num_classes

    @classmethod
    def fit(
        cls,
        labeled: LabeledSlots,
        *,
        num_classes: int,
        patch_size: int,
        anchors: int = 9,
        config: RecalibrationConfig | None = None,
        seed: int = 0,
    ) -> RecalibratedConvolution:
        """Train it on the detections of labeled pictures; stops early on those of a tenth of them.

        Args:
            labeled: detections with their classes.
            num_classes: K.
            patch_size: 9 * C, of the features the first so many.
            anchors: A.
            config: budget: ``epochs``, ``min_steps``, ``patience``, ``gamma``.
            seed: of weights, batches and hold-out.

        Raises: NotEnoughLabels: if no detection is an object.
        """
        config = config or RecalibrationConfig(form="paper")
        positive = labeled.targets < num_classes
        if not positive.any():
            raise NotEnoughLabels(
                "none of the detections lies on a labeled box, so there is nothing to train the "
                "re-calibration layer on; label more, until the detector was trained on them"
            )
        held = _held_out(labeled.slots.picture, positive, seed)
        patches = torch.from_numpy(
            np.ascontiguousarray(labeled.slots.features[:, :patch_size], dtype=np.float32)
        )
        anchor = torch.from_numpy(labeled.slots.anchor)
        wanted = torch.zeros(len(anchor), num_classes)
        at = np.flatnonzero(positive)
        wanted[torch.from_numpy(at), torch.from_numpy(labeled.targets[at])] = 1.0
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(patch_size, anchors * num_classes)
        weight.normal_(std=_STD, generator=generator).requires_grad_(True)
        bias = torch.full((anchors * num_classes,), -math.log((1 - PRIOR) / PRIOR))
        bias.requires_grad_(True)

        def loss(rows: Tensor) -> Tensor:
            said = _chosen(patches[rows] @ weight + bias, anchor[rows], num_classes)
            summed = sigmoid_focal_loss(said, wanted[rows], gamma=config.gamma, reduction="sum")
            objects: Tensor = wanted[rows].sum().clamp_min(1.0)
            found: Tensor = summed / objects
            return found

        rows = torch.from_numpy(np.flatnonzero(~held))
        kept = _train([weight, bias], loss, rows, np.flatnonzero(held), config, generator)
        return cls(kept[0].numpy(), kept[1].numpy(), num_classes)

    def logits(self, slots: Slots) -> NDArray[np.float32]:
        """(M, K) of detections.

        Raises: ShapeError: if their features are narrower than the patch that it was trained on.
        """
        width = len(self.weight)
        if slots.features.shape[1] < width:
            raise ShapeError(
                f"found features {slots.features.shape}, expected at least {width} columns: they "
                "are of another frozen model; fit again"
            )
        found = np.empty((len(slots), self.num_classes), dtype=np.float32)
        weight, bias = torch.from_numpy(self.weight), torch.from_numpy(self.bias)
        for start in range(0, len(slots), _ROWS):
            here = slice(start, start + _ROWS)
            patches = torch.from_numpy(
                np.ascontiguousarray(slots.features[here, :width], dtype=np.float32)
            )
            said = _chosen(
                patches @ weight + bias, torch.from_numpy(slots.anchor[here]), self.num_classes
            )
            found[here] = said.numpy()
        return found

    def state(self) -> dict[str, NDArray[np.generic]]:
        """What must be stored."""
        return {
            "weight": self.weight,
            "bias": self.bias,
            "classes": np.asarray([self.num_classes], dtype=np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, NDArray[np.generic]]) -> RecalibratedConvolution:
        """The layer that ``state`` came from."""
        return cls(
            state["weight"].astype(np.float32),
            state["bias"].astype(np.float32),
            int(state["classes"][0]),
        )


def _chosen(said: Tensor, anchor: Tensor, num_classes: int) -> Tensor:
    """(B, K) of (B, A * K): the logits of each row's own anchor."""
    apart = said.view(len(said), -1, num_classes)
    return apart[torch.arange(len(said)), anchor]


def _train(
    parameters: list[Tensor],
    loss: Callable[[Tensor], Tensor],
    rows: Tensor,
    held: NDArray[np.int64],
    config: RecalibrationConfig,
    generator: torch.Generator,
) -> list[Tensor]:
    """Adam in epochs; the weights of the epoch that did best on what is held out."""
    optimiser = torch.optim.Adam(parameters, lr=_LEARNING_RATE)
    per_epoch = math.ceil(len(rows) / _BATCH)
    passes = max(1, math.ceil(config.min_steps / (per_epoch * config.epochs)))
    judged = torch.from_numpy(held)
    best, least, waited = [p.detach().clone() for p in parameters], math.inf, 0
    for _ in range(config.epochs):
        for _ in range(passes):
            order = rows[torch.randperm(len(rows), generator=generator)]
            for batch in torch.split(order, _BATCH):
                optimiser.zero_grad()
                loss(batch).backward()  # type: ignore[no-untyped-call, unused-ignore]
                optimiser.step()
        if not len(held):
            continue
        with torch.no_grad():
            found = float(loss(judged))
        if found < least:
            best, least, waited = [p.detach().clone() for p in parameters], found, 0
            continue
        waited += 1
        if waited >= config.patience:
            break
    return best if len(held) else [p.detach().clone() for p in parameters]


def _held_out(
    picture: NDArray[np.int64], positive: NDArray[np.bool_], seed: int
) -> NDArray[np.bool_]:
    """Detections of a tenth of the pictures, where both parts hold objects; else of none."""
    pictures = np.unique(picture)
    count = round(_HOLD_OUT * len(pictures))
    chosen = np.random.default_rng(seed).choice(pictures, count, replace=False)
    held = np.isin(picture, chosen)
    if not (positive & held).any() or not (positive & ~held).any():
        return np.zeros(len(picture), dtype=bool)
    return held
