"""Pictures with boxes as every training of a detector holds them and draws from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from models.backbones.detector import Detector, extents
from models.detection.boxes import Boxes
from models.detection.targets import Target, mirrored, mirrored_pictures, placed, target_of


@dataclass(frozen=True)
class Drawn:
    """Some pictures on their way into a network.

    Attributes:
        inputs: (B, 3, S, S) float32; only their shape counts where the stages are known.
        wanted: what is on each.
        stages: the trunk's maps, where they are known.
    """

    inputs: Tensor
    wanted: tuple[Target, ...]
    stages: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class BoxSet:
    """N pictures with boxes, as a training holds them.

    Attributes:
        pictures: (N, 4, S, S) uint8, as ``Detector.pixels`` gives them.
        boxes: of each.
        class_names: K names; boxes of other classes, or of none, teach nothing.
        maps: for each of the trunk's stages (2, N, C, h, w), of the pictures and of their mirror
            images, where the trunk stays as it is and was computed before.
    """

    pictures: Tensor
    boxes: tuple[Boxes, ...]
    class_names: tuple[str, ...]
    maps: tuple[Tensor, ...] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def extent(self) -> Tensor:
        """(N, 2) width and height of what is picture."""
        return extents(self.pictures)

    @cached_property
    def targets(self) -> list[Target]:
        """What is on each."""
        return [
            target_of(some, class_names=self.class_names, extent=size)
            for some, size in zip(self.boxes, self.extent, strict=True)
        ]

    @cached_property
    def holds(self) -> Tensor:
        """(N, K) bool: which classes are on each."""
        found = torch.zeros(len(self), len(self.class_names), dtype=torch.bool)
        for number, target in enumerate(self.targets):
            found[number, target["labels"]] = True
        return found

    def stages(self) -> list[Tensor] | None:
        """The maps of the pictures as they are."""
        return None if self.maps is None else [level[0] for level in self.maps]

    def draw(
        self,
        rows: Tensor,
        *,
        flips: bool,
        scaled: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> Drawn:
        """Some pictures, each mirrored by chance with its boxes where ``flips`` says so.

        Args:
            rows: (B,) which.
            flips: draws from torch's random numbers either way.
            scaled: from stored pictures to a network's input, as ``Detector.scaled``.
            device: where they are wanted.
        """
        flip = torch.rand(len(rows)) < (0.5 if flips else 0.0)
        wanted = tuple(
            placed(mirrored(self.targets[n], self.extent[n]) if turned else self.targets[n], device)
            for n, turned in zip(rows.tolist(), flip.tolist(), strict=True)
        )
        if self.maps is not None:
            stages = tuple(level[flip.long(), rows].float().to(device) for level in self.maps)
            size = self.pictures.shape[-1]
            return Drawn(torch.empty(len(rows), 3, size, size, device=device), wanted, stages)
        pictures, at = self.pictures[rows], torch.nonzero(flip).flatten()
        if len(at):
            pictures[at] = mirrored_pictures(pictures[at], self.extent[rows[at]])
        return Drawn(scaled(pictures)[:, :3].to(device, memory_format=torch.channels_last), wanted)


def with_maps(detector: Detector, sets: Sequence[BoxSet], *, most_bytes: int) -> list[BoxSet]:
    """The same with the maps of the detector's trunk, where all of them fit into memory.

    Sets that have maps already keep them.
    """
    without = [some for some in sets if some.maps is None]
    if not without:
        return list(sets)
    one = trunk_maps(detector, without[0].pictures[:1])
    needed = sum(map(len, without)) * sum(level.numel() * level.element_size() for level in one)
    if needed > most_bytes:
        return list(sets)
    return [
        some
        if some.maps is not None
        else replace(some, maps=tuple(trunk_maps(detector, some.pictures)))
        for some in sets
    ]


def trunk_maps(detector: Detector, pixels: Tensor, *, batch: int = 16) -> list[Tensor]:
    """The trunk's maps of pictures and of their mirror images: (2, N, C, h, w) float16 each.

    Args:
        detector: whose trunk; it is left as it is.
        pixels: (N, 4, S, S) uint8.
        batch: pictures computed at once.
    """
    parts: list[list[Tensor]] = []
    extent = extents(pixels)
    stages = detector.network.backbone.stages
    for turned in (False, True):
        found = []
        for start in range(0, len(pixels), batch):
            some = pixels[start : start + batch]
            if turned:
                some = mirrored_pictures(some, extent[start : start + batch])
            with torch.inference_mode():
                maps = stages(
                    detector.scaled(some)[:, :3]
                    .to(detector.device)
                    .contiguous(memory_format=torch.channels_last)
                )
            found.append([one.half().cpu().contiguous() for one in maps])
        parts.append([torch.cat(level) for level in zip(*found, strict=True)])
    return [torch.stack(level) for level in zip(*parts, strict=True)]
