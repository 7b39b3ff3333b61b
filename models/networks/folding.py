"""A frozen copy of a network that computes faster: batch normalisation folded into convolutions."""

from __future__ import annotations

import copy
import logging

import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

logger = logging.getLogger(__name__)

_FOLDS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def folded(network: nn.Module) -> nn.Module:
    """The network in evaluation mode without gradients, as a copy.

    What it says differs by rounding only. A network whose graph cannot be traced, or that calls a
    convolution more than once, is copied as it is.

    Args:
        network: left as it is.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(False)
    try:
        graph = torch.fx.symbolic_trace(plain).graph
        called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
        modules = dict(plain.named_modules())
        shared = [name for name in called if called.count(name) > 1]
        if any(isinstance(modules[name], _FOLDS) for name in shared):
            return plain  # folded for one of its calls, it would be wrong in the others
        quick: nn.Module = fuse(plain)
    except Exception as error:
        # Tracing runs the network's own code with stand-ins, which may raise anything.
        logger.debug("%s is not folded: %s", type(network).__name__, error)
        return plain
    return quick.to(memory_format=torch.channels_last).requires_grad_(False)
