"""A last layer whose logits are scaled cosines, and how to put one in."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import ConfigError


class CosineLinear(nn.Linear):
    """Logits s cos(x, w_k): neither the length of a feature nor that of a class's row counts.

    Args:
        in_features: D.
        out_features: K.
        scale: s; without it the softmax of cosines is nearly flat.
    Source: Wang et al. 2018, arXiv:1801.05599; the classifier of LDAM's released code, which has
        s in its loss instead.
    """

    def __init__(self, in_features: int, out_features: int, scale: float = 30.0) -> None:
        super().__init__(in_features, out_features, bias=False)
        self.scale = scale
        with torch.no_grad():
            self.weight.copy_(F.normalize(self.weight))

    @classmethod
    def like(cls, linear: nn.Linear, scale: float = 30.0) -> CosineLinear:
        """One that looks in the directions of another layer, with rows of length 1."""
        layer = cls(linear.in_features, linear.out_features, scale)
        layer.weight = nn.Parameter(F.normalize(linear.weight.detach()))
        return layer

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) features to (B, K) logits within [-s, s]."""
        # bfloat16 tells logits near 30 apart by .125: never under autocast.
        with torch.autocast(x.device.type, enabled=False):
            directions = F.normalize(x.to(self.weight.dtype), dim=-1)
            cosines: Tensor = F.linear(directions, F.normalize(self.weight))
        return self.scale * cosines


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """The name and the last Linear layer of a network; the name is empty where it is one itself.

    Raises:
        ConfigError: if the network has none.
    """
    found = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not found:
        raise ConfigError(f"{type(network).__name__} has no Linear layer; expected a linear head")
    return found[-1]


def replace_last_linear(network: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """Put another layer in place of the last Linear layer.

    Args:
        network: changed in place, unless it is that layer itself.
        make: from the old layer to the new one.
    Returns: the network, or the new layer alone.    Raises: ConfigError: if there is no such layer.
    """
    name, old = last_linear(network)
    if not name:
        return make(old)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, make(old))
    return network
