"""Prior scaling: divide the probabilities of a plainly trained network by the priors.

No retraining. It is right only where training saw the priors as they are: on a re-weighted or
re-sampled network it would correct twice, which ``Combined`` refuses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.errors import ConfigError
from models.networks.cosine_head import last_linear
from models.rebalancing.base import Strategy
from models.rebalancing.class_weights import log_priors
from models.rebalancing.options import require


def prior_correction(counts: Tensor, tau: float = 1.0) -> Tensor:
    """What to add to the logits: -tau ln pi_k, but for a constant.

    A class without labels cannot be scaled (p / 0). It is excluded: it gets what the most frequent
    class gets, so it gains on none.

    Args:
        counts: (K,) labels of each class.
        tau: strength; 0 changes nothing, nor do equal counts.
    Returns: (K,) float64.
    Source: Buda et al. 2018, arXiv:1710.05381 (thresholding); Menon et al. 2021, arXiv:2007.07314,
        eq. 9 (tau).
    """
    excluded = torch.where(counts > 0, counts, counts.max())
    return -tau * log_priors(excluded)


class PriorScaling(Strategy):
    """Plain training; at the end the priors are taken off the last layer's bias.

    Args:
        tau: strength, >= 0.
    """

    def __init__(self, *, tau: float = 1.0) -> None:
        require(0 <= tau < math.inf, "tau", tau, "a number >= 0")
        self.tau = tau

    def prepare_network(self, network: nn.Module) -> nn.Module:
        """Refuse a network that cannot be corrected, before it is trained.

        Raises:
            ConfigError: if the last Linear layer has no bias.
        """
        name, layer = last_linear(network)
        # A layer not made with bias may have None, which the stubs do not say.
        if getattr(layer, "bias", None) is None:
            raise ConfigError(
                f"the last layer ({name or type(layer).__name__}) has no bias to fold the priors "
                "into; use balanced_softmax, which needs none"
            )
        return network

    def adjusted(self, probabilities: Tensor) -> Tensor:
        """Divided by the priors, to a sum of 1."""
        factors = prior_correction(self.task.counts, self.tau).exp().to(probabilities)
        scaled = probabilities * factors
        return scaled / scaled.sum(dim=1, keepdim=True)

    def finish(self, network: nn.Module) -> None:
        """Fold the correction into the bias."""
        _, layer = last_linear(network)
        with torch.no_grad():
            layer.bias.add_(prior_correction(self.task.counts, self.tau).to(layer.bias))
