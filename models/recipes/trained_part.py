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
    trained = {id(head)} if layers == "head" else _last_block(network, head)
    frozen = []
    for module in network.modules():
        if not list(module.children()):
            chosen = id(module) in trained
            module.requires_grad_(chosen)
            if not chosen:
                frozen.append(module)
    return frozen


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


def _last_block(network: nn.Module, head: nn.Module) -> set[int]:
    """Leaf modules from the last block on."""
    where: nn.Module = network
    trained: set[int] = set()
    while True:
        parts = [part for part in where.children() if any(True for _ in part.parameters())]
        before = [part for part in parts if head not in part.modules()]
        if len(before) < len(parts):  # the head and what belongs to it
            for part in parts[len(before) :]:
                trained |= _leaves(part)
        if not before:
            inner = [
                part for part in where.children() if head in part.modules() and part is not head
            ]
            if not inner:
                return trained | {id(head)}
            where, trained = inner[0], set()  # everything lies inside one part
            continue
        rows = [part for part in before if _row_of_blocks(part)]
        if not rows:
            return trained | _leaves(before[-1])
        place = before.index(rows[-1])
        for part in before[place + 1 :]:
            trained |= _leaves(part)
        if isinstance(rows[-1], nn.Sequential | nn.ModuleList):
            blocks = [b for b in rows[-1].children() if any(True for _ in b.parameters())]
            return trained | _leaves(blocks[-1])
        where = rows[-1]


def _row_of_blocks(part: nn.Module) -> bool:
    """Whether a part is a row of blocks, or holds one."""
    return any(
        isinstance(m, nn.Sequential | nn.ModuleList) and len(list(m.children())) > 1
        for m in part.modules()
    )


def _leaves(module: nn.Module) -> set[int]:
    return {id(leaf) for leaf in module.modules() if not list(leaf.children())}
