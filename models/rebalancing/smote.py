"""SMOTE: new examples of rare classes on the lines between neighbours of one class."""

from __future__ import annotations

import torch
from torch import Tensor

from models.rebalancing.base import Strategy
from models.rebalancing.options import require

_MOST_DISTANCES = 2**24  # held at once
_BLOCK = 256  # new points made at once: as floats they take four times as much as pictures


class Smote(Strategy):
    """Before training, fill every class up to the largest.

    Features of a frozen trunk are mixed as they are; uint8 pictures pixel by pixel, rounded. A
    class with one example is filled with copies of it; one without examples stays empty.

    Args:
        neighbours: of the same class, among which one is drawn, >= 1.
    Source: Chawla et al. 2002, arXiv:1106.1813; example, neighbour and place are drawn as in
        imbalanced-learn. M2m's baseline goes through all neighbours in turn instead.
    """

    def __init__(self, *, neighbours: int = 5) -> None:
        require(neighbours >= 1, "neighbours", neighbours, "a whole number >= 1")
        require(int(neighbours) == neighbours, "neighbours", neighbours, "a whole number >= 1")
        self.neighbours = int(neighbours)

    def prepare_examples(
        self, inputs: Tensor, targets: Tensor, *, classes: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """The examples given, then the new ones class by class."""
        generator = torch.Generator().manual_seed(seed)
        most = int(torch.bincount(targets.cpu(), minlength=classes).max())
        all_inputs, all_targets = [inputs], [targets]
        for k in range(classes):
            own = inputs[targets == k]
            missing = most - len(own)
            if missing and len(own):
                all_inputs.append(between(own, missing, self.neighbours, generator))
                all_targets.append(targets.new_full((missing,), k))
        return torch.cat(all_inputs), torch.cat(all_targets)


def between(points: Tensor, count: int, neighbours: int, generator: torch.Generator) -> Tensor:
    """New points x_i + u (x_nn - x_i), u uniform on [0, 1).

    Args:
        points: (M, ...) of one class, M >= 1; integers are rounded to.
        count: how many.
        neighbours: k; of fewer points all the others are neighbours.
        generator: on the CPU.
    Returns: (count, ...) of the points' type.
    """
    flat = points.flatten(1).float()  # (M, D)
    k = min(neighbours, len(flat) - 1)
    first = torch.randint(len(flat), (count,), generator=generator).to(flat.device)
    which = torch.randint(max(k, 1), (count,), generator=generator).to(flat.device)
    share = torch.rand((count, 1), generator=generator).to(flat.device)
    if k < 1:
        return points[first]
    second = nearest(flat, k)[first, which]
    made = torch.empty((count, flat.shape[1]), dtype=points.dtype, device=flat.device)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        mixed = torch.lerp(flat[first[rows]], flat[second[rows]], share[rows])
        made[rows] = (mixed if points.is_floating_point() else mixed.round()).to(points.dtype)
    return made.reshape(count, *points.shape[1:])


def nearest(points: Tensor, k: int) -> Tensor:
    """(M, k) rows of the k points nearest to each of (M, D) points, itself excepted; k < M."""
    # Distances come from a matrix product, which cancels where the mean is large.
    centred = points - points.mean(dim=0)
    step = max(1, _MOST_DISTANCES // len(points))
    rows = []
    for start in range(0, len(points), step):
        distances = torch.cdist(centred[start : start + step], centred)
        here = torch.arange(len(distances), device=points.device)
        distances[here, here + start] = torch.inf
        rows.append(distances.topk(k, largest=False).indices)
    return torch.cat(rows)
