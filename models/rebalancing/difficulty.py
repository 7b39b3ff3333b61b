"""Instance difficulty: draw an example as often as it is un-learned, whatever its class.

After each epoch the probabilities of every example are compared with those before. Steps towards
its label are learning, steps away are unlearning; an example whose unlearning is large beside its
learning is hard. A mislabeled example becomes ever harder, so the largest are capped for drawing,
and ``hardest`` lists them for review. In runs of less than 20 epochs the weights are noise.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor

from models.errors import ShapeError
from models.rebalancing.base import Strategy, Task
from models.rebalancing.options import require

_LEAST = 1e-7
_MOST_ENTRIES = 2**22  # of one block


def learning_and_unlearning(
    before: Tensor, after: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """How much of the change towards the label, and how much away from it.

    Each class gives (p - q) ln(p / q) >= 0: to learning where the label's probability rose or
    another's fell, else to unlearning. Together they are the PSI of the two distributions.

    Args:
        before: (N, K) probabilities q.
        after: (N, K) probabilities p.
        targets: (N,) int64.
    Returns: (N,) learning and (N,) unlearning, both >= 0; swapping before and after swaps them.
    Source: Yu et al. 2022 (CVPR), eq. 4 and 5; clipped to [1e-7, 1].
    """
    p, q = after.clamp(_LEAST, 1), before.clamp(_LEAST, 1)
    change = p - q
    terms = change * (p.log() - q.log())  # (N, K)
    towards = (change > 0) == F.one_hot(targets, p.shape[1]).bool()
    nothing = torch.zeros_like(terms)
    return terms.where(towards, nothing).sum(dim=1), nothing.where(towards, terms).sum(dim=1)


class Difficulty(Strategy):
    """Draw in proportion to D = (c + sum of unlearning) / (c + sum of learning).

    An example that is always wrong and never moves keeps D = 1: this is not weighting by loss.

    Args:
        c: damping, > 0; the larger, the more alike all are drawn. 1 in a public re-implementation,
            the paper gives none.
        cap: quantile in (0, 1] of D beyond which an example is not drawn any oftener.
        replacement: draw with replacement even while all weights are equal, as Algorithm 1 does;
            else all examples are shuffled until then.
    Source: Yu et al. 2022 (CVPR), A Re-balancing Strategy for Class-Imbalanced Classification
        Based on Instance Difficulty, Algorithm 1.
    """

    needs_probabilities = True
    takes_boxes = True

    def __init__(self, *, c: float = 1.0, cap: float = 0.999, replacement: bool = False) -> None:
        require(0 < c < math.inf, "c", c, "a number > 0")
        require(0 < cap <= 1, "cap", cap, "a quantile in (0, 1]")
        self.c = c
        self.cap = cap
        self.replacement = replacement

    def begin(self, task: Task) -> None:
        """Start from equal probabilities of all classes."""
        super().begin(task)
        examples = len(task.targets)
        self._targets = task.targets.cpu()
        self._previous = torch.full((examples, task.classes), 1 / task.classes)
        self._learning = torch.zeros(examples, dtype=torch.float64)
        self._unlearning = torch.zeros(examples, dtype=torch.float64)

    def on_epoch_end(self, epoch: int, probabilities: Tensor | None) -> None:
        """Compare with the epoch before; an example with NaN counts as unchanged."""
        if probabilities is None or probabilities.shape != self._previous.shape:
            found = None if probabilities is None else tuple(probabilities.shape)
            raise ShapeError(
                f"found probabilities {found}; expected {tuple(self._previous.shape)}, one row for "
                "each training example"
            )
        known = probabilities.isfinite().all(dim=1, keepdim=True)
        current = torch.where(known, probabilities.float(), self._previous).clamp(_LEAST, 1)
        step = max(1, _MOST_ENTRIES // current.shape[1])
        blocks = [slice(at, at + step) for at in range(0, len(current), step)]
        pairs = [
            learning_and_unlearning(self._previous[rows], current[rows], self._targets[rows])
            for rows in blocks
        ]
        self._learning = self._learning + torch.cat([learned for learned, _ in pairs])
        self._unlearning = self._unlearning + torch.cat([lost for _, lost in pairs])
        self._previous = current

    @property
    def difficulties(self) -> Tensor:
        """(N,) float64 D, not capped; above 1 is harder than neutral."""
        return (self.c + self._unlearning) / (self.c + self._learning)

    @property
    def weights(self) -> Tensor:
        """(N,) float64 chances of being drawn, summing to 1."""
        difficulties = self.difficulties
        most = difficulties.kthvalue(math.ceil(self.cap * len(difficulties))).values
        capped = difficulties.clamp_max(most)
        return capped / capped.sum()

    def make_sampler(self, epoch: int) -> Tensor | None:
        """The weights; None while they are equal."""
        weights = self.weights
        equal = bool((weights == weights[0]).all())
        return None if equal and not self.replacement else weights

    def hardest(self, count: int) -> tuple[Tensor, Tensor]:
        """For review: rows of the examples that were un-learned most, and their D.

        Args:
            count: how many; at most N come back.
        Returns: rows, (count,) int64 of the training set, and (count,) D from high to low; ties by
            row.
        """
        values, rows = self.difficulties.sort(descending=True, stable=True)
        return rows[: max(count, 0)], values[: max(count, 0)]

    def diagnostics(self) -> dict[str, JsonValue]:
        """The largest D and the share of examples above 1."""
        difficulties = self.difficulties
        return {
            "largest_difficulty": float(difficulties.max()),
            "harder_than_neutral": float((difficulties > 1).double().mean()),
        }

    def state_dict(self) -> dict[str, Tensor]:
        """Both sums and the last probabilities."""
        return {
            "previous": self._previous,
            "learning": self._learning,
            "unlearning": self._unlearning,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave.

        Raises:
            ShapeError: if it is of other examples.
        """
        if state["previous"].shape != self._previous.shape:
            raise ShapeError(
                f"found the state of {tuple(state['previous'].shape)} probabilities; expected "
                f"{tuple(self._previous.shape)}; the training set is another"
            )
        self._previous = state["previous"]
        self._learning = state["learning"]
        self._unlearning = state["unlearning"]
