"""A frozen copy of a network that computes faster: batch normalisation folded into convolutions."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn
from torch.fx import Graph, symbolic_trace
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_weights

logger = logging.getLogger(__name__)

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class FoldedCopy:
    """The network in evaluation mode without gradients, which ``refresh`` brings up to date.

    What it says differs by rounding only. A network whose graph cannot be traced, or that calls a
    convolution or a normalisation more than once, is copied as it is.

    Args:
        network: left as it is.

    Attributes:
        network: the copy.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._pairs: dict[str, str] = {}
        try:
            graph = symbolic_trace(self.network).graph
            pairs = _pairs(graph, dict(self.network.named_modules()))
            if pairs:
                quick: nn.Module = fuse(self.network)
                self.network = quick.requires_grad_(False)
                self._pairs = pairs
        except Exception as error:
            # Tracing runs the network's own code with stand-ins, which may raise anything.
            logger.debug("%s is not folded: %s", type(network).__name__, error)
        self.network.to(memory_format=torch.channels_last)
        self.refresh(network)

    def refresh(self, network: nn.Module) -> nn.Module:
        """Take the weights that the network has now; returns the copy."""
        source = network.state_dict()
        modules = dict(network.named_modules())
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                owner, _, kind = name.rpartition(".")
                if owner not in self._pairs:
                    value.copy_(source[name])
                elif kind == "weight":
                    weight, bias = _fused(modules[owner], modules[self._pairs[owner]])
                    value.copy_(weight)
                    self.network.get_parameter(f"{owner}.bias").copy_(bias)
        return self.network


def _pairs(graph: Graph, modules: dict[str, nn.Module]) -> dict[str, str]:
    """Name of each convolution that a normalisation follows -> its name; {} if any is shared."""
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    ours = [name for name in called if isinstance(modules[name], _CONVOLUTIONS + _NORMS)]
    if len(set(ours)) < len(ours):
        return {}  # folded for one of its calls, it would be wrong in the others
    found = {}
    for node in graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if isinstance(before, torch.fx.Node) and before.op == "call_module":
            norm, convolution = modules[str(node.target)], modules[str(before.target)]
            if (
                isinstance(norm, _NORMS)
                and isinstance(convolution, _CONVOLUTIONS)
                and norm.track_running_stats
                and len(before.users) == 1
            ):
                found[str(before.target)] = str(node.target)
    return found


def _fused(convolution: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(convolution, _CONVOLUTIONS)
    assert isinstance(norm, _NORMS)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
