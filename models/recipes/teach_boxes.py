"""Pictures with boxes, for the training loop.

An image's loss L is RetinaNet's (classification and boxes) on it alone, without augmentation and
in evaluation mode. exp(-L) stands for the probability of "right", as exp of minus cross-entropy is
a class's probability: what strategies that follow each example look at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from models.detection.coco import box_metrics
from models.detection.targets import Target, placed
from models.networks.retinanet import Retina
from models.rebalancing.base import Batch, Criterion, Strategy
from models.recipes.box_set import BoxSet
from models.recipes.find_boxes import find_boxes

_BATCH = 16


@dataclass(frozen=True)
class BoxBatch(Batch):
    """A batch of pictures with boxes.

    Attributes:
        wanted: what is on each.
        stages: the trunk's maps, where they are known; then only the shape of ``inputs`` counts.
    """

    wanted: tuple[Target, ...] = ()
    stages: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class BoxTeaching:
    """Implements ``models.recipes.teaching.Teaching``.

    Attributes:
        training: what is learned from.
        validation: what chooses the epoch, where there is any.
        scaled: from stored pictures to a network's input, as ``Detector.scaled``.
        flips: whether half of the pictures are mirrored, with their boxes.
    """

    training: BoxSet
    validation: BoxSet | None
    scaled: Callable[[Tensor], Tensor]
    flips: bool

    worth_name = "mean_ap"
    pictures = True
    class_names = ("right", "wrong")

    @property
    def inputs(self) -> Tensor:
        """The pictures."""
        return self.training.pictures

    @cached_property
    def targets(self) -> Tensor:
        """(N,) zeros: "right" is what each is to be."""
        return torch.zeros(len(self.training), dtype=torch.int64)

    @property
    def holds(self) -> Tensor | None:
        """(N, K) which classes are on each."""
        return self.training.holds

    @property
    def validates(self) -> bool:
        """Whether there are validation examples."""
        return self.validation is not None and len(self.validation) > 0

    def prepared(self, strategy: Strategy, seed: int) -> BoxTeaching:
        """The same: no strategy for boxes adds pictures."""
        return self

    def batch(self, rows: Tensor, epoch: int, device: torch.device) -> BoxBatch:
        """Some pictures, mirrored by chance."""
        drawn = self.training.draw(rows, flips=self.flips, scaled=self.scaled, device=device)
        targets = self.targets[rows].to(device)
        return BoxBatch(drawn.inputs, targets, rows, epoch, drawn.wanted, drawn.stages)

    def loss(self, network: nn.Module, batch: Batch, criterion: Criterion) -> Tensor:
        """RetinaNet's own; ``criterion`` is for examples with one class."""
        assert isinstance(batch, BoxBatch)  # of ``batch``, and no strategy for boxes changes it
        stages = None if batch.stages is None else list(batch.stages)
        losses: dict[str, Tensor] = network(batch.inputs, list(batch.wanted), stages=stages)
        return torch.stack([part.float() for part in losses.values()]).sum()

    def said(self, network: nn.Module, device: torch.device) -> Tensor:
        """(N, 2): exp(-L) and 1 - exp(-L)."""
        with torch.autocast(device.type, enabled=False):
            right = torch.exp(-losses_of(network, self.training, self.scaled, device=device))
        return torch.stack([right, 1 - right], dim=1)

    def worth(self, network: nn.Module, device: torch.device, strategy: Strategy) -> float:
        """Mean AP; 0 where no validation picture has a box."""
        assert self.validation is not None  # ``validates``
        assert isinstance(network, Retina)
        found = find_boxes(
            network,
            self.validation.pictures,
            self.scaled,
            device=device,
            stages=self.validation.stages(),
        )
        figures = box_metrics(
            found, self.validation.boxes, class_names=self.validation.class_names, resamples=0
        )
        return figures.mean_ap or 0.0


@torch.inference_mode()
def losses_of(
    network: nn.Module,
    known: BoxSet,
    scaled: Callable[[Tensor], Tensor],
    *,
    device: torch.device,
) -> Tensor:
    """(N,) float32, on the CPU: each picture's loss alone, in evaluation mode, which is left on.

    Args:
        network: a ``Retina`` on ``device``.
        known: pictures and boxes.
        scaled: from pictures to inputs.
        device: where to compute.
    """
    assert isinstance(network, Retina)
    network.eval()
    anchors = network.anchors_of(int(known.pictures.shape[-1]))
    stages = known.stages()
    found = []
    for start in range(0, len(known), _BATCH):
        part = slice(start, start + _BATCH)
        if stages is None:
            inputs = scaled(known.pictures[part])[:, :3].to(device)
            maps: Sequence[Tensor] = network.backbone.stages(inputs)
        else:
            maps = [level[part].float().to(device) for level in stages]
        said = network.head(network.backbone.over(list(maps)))
        for n, target in enumerate(known.targets[part]):
            own = {name: value[n : n + 1].float() for name, value in said.items()}
            losses = network.compute_loss([placed(target, device)], own, [anchors])
            found.append(torch.stack(list(losses.values())).sum().float().cpu())
    return torch.stack(found) if found else torch.zeros(0)
