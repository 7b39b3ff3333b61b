"""RetinaNet (Lin et al., ICCV 2017) of torchvision's parts, over any trunk.

What differs from torchvision's class: pictures come scaled and of one size; places of which nobody
knows what they hold are neither object nor background; and what the classification tower and the
trunk make of a picture can be had, since the re-calibration layer is trained on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import box_iou, clip_boxes_to_image

from models.networks.feature_pyramid import STRIDES, Pyramid

PRIOR = 0.01
"""Probability of an object at any anchor that a fresh last convolution starts from."""

LEVELS = (*STRIDES, 64)
_RATIOS = (0.5, 1.0, 2.0)
_OCTAVES = (0.0, 1 / 3, 2 / 3)
_SIDE = 4  # of an anchor, in strides
_NO_NEWS = 0.4  # overlap with an unknown place from which on an anchor teaches nothing

Target = dict[str, Tensor]


@dataclass(frozen=True)
class Looked:
    """What the network makes of N pictures, over all its anchors.

    Attributes:
        stages: the trunk's maps, finest first.
        towers: for each level the classification tower's (N, C, h, w), the input of the last
            convolution.
        logits: (N, M, K), anchors of level after level, row after row, place after place.
        boxes: (N, M, 4) x0, y0, x1, y1 in pixels, within the picture.
    """

    stages: list[Tensor]
    towers: list[Tensor]
    logits: Tensor
    boxes: Tensor


class Retina(RetinaNet):  # type: ignore[misc, unused-ignore]  # torchvision has no types
    """A RetinaNet over a feature pyramid of ``LEVELS``, with nine anchors at each place.

    Args:
        pyramid: pictures to maps.
        num_classes: K; there is no column for background.
    """

    def __init__(self, pyramid: Pyramid, num_classes: int) -> None:
        sizes = tuple(
            tuple(round(_SIDE * stride * 2**octave) for octave in _OCTAVES) for stride in LEVELS
        )
        anchors = AnchorGenerator(sizes, (_RATIOS,) * len(LEVELS))
        per_place = anchors.num_anchors_per_location()[0]
        head = RetinaNetHead(pyramid.out_channels, per_place, num_classes)
        for tower in (head.classification_head.conv, head.regression_head.conv):
            for layer in tower.modules():
                if isinstance(layer, nn.Conv2d):
                    # The published 0.01 is for 256 channels; narrower towers would pass nothing on.
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        super().__init__(pyramid, num_classes, anchor_generator=anchors, head=head)
        self.num_classes = num_classes
        self.anchors_per_place = per_place

    @property
    def last_convolution(self) -> nn.Conv2d:
        """(A * K, C, 3, 3): what the re-calibration layer takes the place of."""
        layer: nn.Conv2d = self.head.classification_head.cls_logits
        return layer

    def forward(
        self,
        images: Tensor | Sequence[Tensor],
        targets: Sequence[Target] | None = None,
        *,
        stages: list[Tensor] | None = None,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses in training mode, detections else.

        Args:
            images: (N, 3, S, S), scaled, or N of (3, S, S); only the shape counts with ``stages``.
            targets: for each picture ``boxes`` (B, 4) in pixels and ``labels`` (B,) in [0, K), and
                where there are such places ``unknown`` (U, 4).
            stages: the trunk's maps of these pictures, where they are known.
        Returns: ``classification`` and ``bbox_regression``, or for each picture ``boxes``,
            ``scores`` and ``labels``.
        """
        batch = images if isinstance(images, Tensor) else torch.stack(list(images))
        maps = self.backbone.over(self.backbone.stages(batch) if stages is None else stages)
        said = self.head(maps)
        anchors = self._anchors(batch, maps)
        if self.training:
            if targets is None:
                raise ValueError("found no targets, expected one for each picture in training")
            losses: dict[str, Tensor] = self.compute_loss(list(targets), said, anchors)
            return losses
        places = [m.shape[2] * m.shape[3] * self.anchors_per_place for m in maps]
        split = {name: list(torch.split(value, places, dim=1)) for name, value in said.items()}
        size = (batch.shape[2], batch.shape[3])
        found: list[dict[str, Tensor]] = self.postprocess_detections(
            split, [list(torch.split(own, places)) for own in anchors], [size] * len(batch)
        )
        return found

    def look(self, images: Tensor, *, stages: list[Tensor] | None = None) -> Looked:
        """Everything that the network makes of (N, 3, S, S) scaled pictures; see ``forward``."""
        stages = self.backbone.stages(images) if stages is None else stages
        maps = self.backbone.over(stages)
        head = self.head.classification_head
        towers = [head.conv(one) for one in maps]
        logits = torch.cat([self.flat(head.cls_logits(tower)) for tower in towers], dim=1)
        anchors = torch.stack(self._anchors(images, maps))
        offsets = self.head.regression_head(maps)
        boxes = self.box_coder.decode_single(
            offsets.reshape(-1, 4), anchors.reshape(-1, 4)
        ).reshape(offsets.shape)
        size = (images.shape[2], images.shape[3])
        return Looked(stages, towers, logits, clip_boxes_to_image(boxes, size))

    def flat(self, maps: Tensor) -> Tensor:
        """(N, A * K, h, w) of the last convolution to (N, h * w * A, K)."""
        count, _, height, width = maps.shape
        apart = maps.view(count, self.anchors_per_place, -1, height, width)
        return apart.permute(0, 3, 4, 1, 2).reshape(count, -1, apart.shape[2])

    def matches(self, targets: Sequence[Target], anchors: Sequence[Tensor]) -> list[Tensor]:
        """For each picture (M,): the target of each anchor, -1 background, -2 teaches nothing.

        An anchor is background where it overlaps no object by 0.4 and is an object's from 0.5 on,
        or where none overlaps that object better.
        """
        found = []
        for target, own in zip(targets, anchors, strict=True):
            boxes = target["boxes"]
            if len(boxes):
                rows = self.proposal_matcher(box_iou(boxes, own))
            else:
                rows = torch.full((len(own),), -1, dtype=torch.int64, device=own.device)
            unknown = target.get("unknown")
            if unknown is not None and len(unknown):
                rows[(rows == -1) & _touches(own, unknown)] = (
                    self.proposal_matcher.BETWEEN_THRESHOLDS
                )
            found.append(rows)
        return found

    def compute_loss(
        self,
        targets: list[Target],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        """The losses of torchvision, with places that teach nothing."""
        found: dict[str, Tensor] = self.head.compute_loss(
            targets, head_outputs, anchors, self.matches(targets, anchors)
        )
        return found

    def anchors_of(self, side_px: int) -> Tensor:
        """(M, 4) anchors of a square picture, in pixels."""
        device = self.last_convolution.weight.device
        picture = torch.zeros(1, 3, side_px, side_px, device=device)
        maps = [
            torch.zeros(
                1, 1, math.ceil(side_px / stride), math.ceil(side_px / stride), device=device
            )
            for stride in LEVELS
        ]
        return self._anchors(picture, maps)[0]

    def _anchors(self, batch: Tensor, maps: list[Tensor]) -> list[Tensor]:
        size = (batch.shape[2], batch.shape[3])
        found: list[Tensor] = self.anchor_generator(ImageList(batch, [size] * len(batch)), maps)
        return found


def reset(layer: nn.Conv2d) -> None:
    """Initialise a last convolution as RetinaNet does: N(0, 0.01^2), bias -ln((1 - pi) / pi)."""
    nn.init.normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))


def _touches(anchors: Tensor, unknown: Tensor) -> Tensor:
    """(M,) whether an anchor overlaps an unknown place, or lies mostly within one."""
    corner = torch.maximum(anchors[:, None, :2], unknown[None, :, :2])
    end = torch.minimum(anchors[:, None, 2:], unknown[None, :, 2:])
    shared = (end - corner).clamp_min(0).prod(dim=2)
    area = (anchors[:, 2:] - anchors[:, :2]).prod(dim=1).clamp_min(1e-6)
    inside = shared / area[:, None] >= 0.5
    found: Tensor = (inside | (box_iou(anchors, unknown) >= _NO_NEWS)).any(dim=1)
    return found
