"""Which layers a fine-tune trains: the head, the last block with it, or all.

Heavy fine-tuning of strong networks is known to hurt rare classes (Kumar et al. 2022,
arXiv:2202.10054; Shi et al. 2024, arXiv:2309.10019), so less than all can be chosen. What is not
trained stays bit-identical, statistics of batch normalisation included.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.networks.cosine_head import last_linear


def choose_trained(network: nn.Module, layers: str) -> list[nn.Module]:
    """Let gradients flow to the chosen layers only.

    Args:
        network: its last Linear is the head.
        layers: ``head``, ``last_block`` (the last element of the last row of blocks, and all that
            comes after it), or ``all``.
    Returns: modules that must stay in evaluation mode, so that their statistics do not move.
    """
    if layers == "all":
        network.requires_grad_(True)
        return []
    _, head = last_linear(network)
    parts = [head] if layers == "head" else _last_block(network, head)
    network.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    trained = {id(module) for part in parts for module in part.modules()}
    return [module for module in network.modules() if id(module) not in trained]


class PenultimateFeatures:
    """Runs a network up to its head: what a frozen trunk says is computed once."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        _, self.head = last_linear(network)

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> Tensor:
        """(B, ...) inputs to (B, D) float32 inputs of the head."""
        found: list[Tensor] = []
        handle = self.head.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
        try:
            self.network(inputs)
        finally:
            handle.remove()
        return found[-1].flatten(1).float()


def _last_block(network: nn.Module, head: nn.Module) -> list[nn.Module]:
    """The modules from the last block on, the head among them."""
    where, trained = network, [head]
    while True:
        parts = [part for part in where.children() if _has_parameters(part)]
        before = [part for part in parts if head not in part.modules()]
        after = parts[len(before) :] if where is not head else []
        if not before:
            inner = [part for part in after if part is not head]
            if not inner:
                return trained
            where = inner[0]  # everything lies inside one part
            continue
        trained = [*after, *trained]
        rows = [part for part in before if _row_of_blocks(part)]
        if not rows:
            return [*_from_last_weight(before), *trained]
        trained = [*before[before.index(rows[-1]) + 1 :], *trained]
        if isinstance(rows[-1], nn.Sequential | nn.ModuleList):
            blocks = [block for block in rows[-1].children() if _has_parameters(block)]
            return [*_from_last_weight(blocks), *trained]
        where = rows[-1]


def _from_last_weight(parts: list[nn.Module]) -> list[nn.Module]:
    """The last part with a weight matrix, and all after it: a normalisation alone is no block."""
    for place in reversed(range(len(parts))):
        if any(parameter.ndim >= 2 for parameter in parts[place].parameters()):
            return parts[place:]
    return parts[-1:]


def _has_parameters(part: nn.Module) -> bool:
    return next(part.parameters(), None) is not None


def _row_of_blocks(part: nn.Module) -> bool:
    """Whether a part is a row of blocks, or holds one."""
    return any(
        isinstance(m, nn.Sequential | nn.ModuleList) and len(list(m.children())) > 1
        for m in part.modules()
    )
