"""Maps of several strides from any picture classifier: its stages, found by running it once.

Which layers end the stages is measured, not listed by architecture: of the maps with a stride the
last one counts, as a feature pyramid takes them (Lin et al., CVPR 2017, *Feature Pyramid Networks
for Object Detection*).
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from models.errors import ConfigError
from models.networks.cosine_head import replace_last_linear

logger = logging.getLogger(__name__)

STRIDES = (8, 16, 32)
_PROBE_PX = 128


class _Enough(Exception):  # noqa: N818  (ends a forward pass early; nothing is wrong)
    """The last map that is needed was computed."""


class Stages(nn.Module):
    """A classifier as a function from pictures to its maps of stride 8, 16 and 32.

    Args:
        network: a classifier that takes pictures of any size, at least up to its last map. Its
            last Linear is taken out.
    Raises: ConfigError: if it has no map of one of the strides.

    Attributes:
        channels: of each map.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        found = _stages(network)
        if any(isinstance(module, nn.Linear) for module in network.modules()):
            # What it told apart is nobody's business here, and as wide as its weights had it.
            network = replace_last_linear(network, lambda head: nn.Identity())
        self.network = network
        self.names = tuple(name for name, _ in found)
        self.channels = tuple(channels for _, channels in found)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) pictures to maps (N, C, H / stride, W / stride), finest first."""
        maps: dict[str, Tensor] = {}
        layers = dict(self.network.named_modules())
        handles = []

        def keep(name: str) -> Any:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                maps[name] = output
                if name == self.names[-1]:
                    raise _Enough

            return hook

        try:
            handles = [layers[name].register_forward_hook(keep(name)) for name in self.names]
            self.network(images)
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return [maps[name] for name in self.names]


class Pyramid(nn.Module):
    """Stages and a feature pyramid over them: maps of stride 8, 16, 32 and 64, all of one width.

    Args:
        network: a classifier; see ``Stages``.
        width: channels of each map.
    """

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.stages = Stages(network)
        self.pyramid = FeaturePyramidNetwork(
            list(self.stages.channels), width, extra_blocks=LastLevelMaxPool()
        )
        self.out_channels = width

    def over(self, maps: list[Tensor]) -> list[Tensor]:
        """The stages' maps to the pyramid's, finest first."""
        named = OrderedDict((str(number), value) for number, value in enumerate(maps))
        return list(self.pyramid(named).values())

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) pictures to four maps (N, width, H / stride, W / stride)."""
        return self.over(self.stages(images))


def _stages(network: nn.Module) -> list[tuple[str, int]]:
    """Name and channels of the last layer of each stride.

    Blocks in a row are looked at, the outermost rows first: what lies within a block may be wider
    than what it hands on, and comes before its stride.
    """
    calls: list[tuple[str, tuple[int, ...]]] = []
    handles = []

    def listen(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
            calls.append((name, tuple(output.shape) if isinstance(output, Tensor) else ()))

        return hook

    was_training = network.training
    network.eval()
    try:
        handles += [
            network.get_submodule(name).register_forward_hook(listen(name))
            for name in _in_rows(network)
        ]
        with torch.no_grad():
            device = next(network.parameters()).device
            network(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, device=device))
    except RuntimeError:
        # A head that takes one size only; the maps before it are all that is needed.
        logger.debug("the network's head does not take %s px", _PROBE_PX, exc_info=True)
    finally:
        for handle in handles:
            handle.remove()
        network.train(was_training)
    best = _best_of_each_stride(calls)
    missing = [stride for stride in STRIDES if stride not in best]
    if missing:
        raise ConfigError(
            f"the network has no map of stride {', '.join(map(str, missing))}, only of "
            f"{', '.join(map(str, sorted(best))) or 'none'}; a detector needs those of 8, 16 and "
            "32: take another architecture, such as resnet18"
        )
    return [best[stride] for stride in STRIDES]


def _in_rows(network: nn.Module) -> list[str]:
    """Names of modules that stand in a ``Sequential`` or ``ModuleList``."""
    return [
        f"{outer}.{name}" if outer else name
        for outer, module in network.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList)
        for name, _ in module.named_children()
    ]


def _best_of_each_stride(
    calls: Sequence[tuple[str, tuple[int, ...]]],
) -> dict[int, tuple[str, int]]:
    """By stride name and channels of the last of the outermost layers, called once."""
    often = Counter(name for name, _ in calls)
    found: dict[int, tuple[int, str, int]] = {}
    for name, shape in calls:
        if often[name] > 1 or len(shape) != 4 or shape[2] != shape[3] or shape[2] < 2:
            continue
        stride, rest = divmod(_PROBE_PX, shape[2])
        depth = name.count(".")
        if not rest and (stride not in found or depth <= found[stride][0]):
            found[stride] = (depth, name, shape[1])
    return {stride: (name, channels) for stride, (_, name, channels) in found.items()}
