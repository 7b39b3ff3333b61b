"""What a rebalancing strategy may change in the one training loop; every hook does nothing here.

A new strategy is one file: copy ``focal.py`` (another loss), ``resample.py`` (another sampler) or
``smote.py`` (other examples), and add its line to the table in ``__init__.py``.

Axes: N examples, B of them in a batch, K classes. Inputs are pictures (C, H, W) on [0, 1], or the
features (D,) of a frozen trunk.

An example with boxes has no class of its own. What a strategy that says ``takes_boxes`` is told of
it: ``Task.present``, and as its class 0 of ("right", "wrong"), where the network's probability of
"right" is exp(-its loss), as it is for an example with one class. Its loss is the detector's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor, nn

from models.types import Progress, no_progress

#: From logits (B, K) and targets (B,) to a scalar: the mean over the B examples.
Criterion = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """What a strategy is told before the first epoch.

    Attributes:
        inputs: (N, C, H, W) uint8 pictures, or (N, D) float32 features.
        targets: (N,) int64 in [0, K).
        class_names: K names; a class may have no label.
        epochs: how many there will be; epochs are counted from 0.
        batch: examples in a batch.
        seed: of everything random.
        device: where batches and networks are.
        run_dir: where a strategy may keep files of its own.
        train_reference: trains g, see ``reference``; None unless ``needs_reference``.
        low, high: least and greatest value of each input: 0 and 1 for pictures, (D,) for features.
        holds: (N, K) bool, for pictures with boxes: which classes of the label config are in each;
            None where each example is of one class.
        progress: told of long work before the first epoch.
    """

    inputs: Tensor
    targets: Tensor
    class_names: tuple[str, ...]
    epochs: int
    batch: int
    seed: int
    device: torch.device
    run_dir: Path
    train_reference: Callable[[], nn.Module] | None = None
    low: Tensor | float = 0.0
    high: Tensor | float = 1.0
    holds: Tensor | None = None
    progress: Progress = no_progress

    @cached_property
    def reference(self) -> nn.Module | None:
        """The network g: the same architecture trained by ``erm`` on the same examples.

        In evaluation mode, without gradients. It is trained, which takes as long as a run of
        ``erm``, when it is first asked for: refuse before what you can refuse without it. None
        where the strategy has not said ``needs_reference``.
        """
        return self.train_reference() if self.train_reference is not None else None

    @property
    def classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def counts(self) -> Tensor:
        """(K,) int64: labels of each class."""
        return torch.bincount(self.targets.cpu(), minlength=self.classes)

    @property
    def present(self) -> Tensor:
        """(N, K) bool: which classes are in each example."""
        if self.holds is not None:
            return self.holds
        return F.one_hot(self.targets.cpu(), self.classes).bool()

    def from_epoch(self, share: float) -> int:
        """The epoch at which something deferred begins; the last one at the latest.

        Args:
            share: of the epochs that come before, in [0, 1], such as .8 for 160 of 200; 1 is never.
        Returns: epoch, counted from 0; ``epochs`` for never.
        """
        return self.epochs if share >= 1 else min(round(share * self.epochs), self.epochs - 1)


@dataclass(frozen=True)
class Batch:
    """Some examples on the way into the network.

    Attributes:
        inputs: (B, C, H, W) float on [0, 1], augmented; or (B, D) features.
        targets: (B,) int64.
        rows: (B,) where they stand in the training set.
        epoch: counted from 0.
    """

    inputs: Tensor
    targets: Tensor
    rows: Tensor
    epoch: int


def batches_of(examples: int, batch: int) -> int:
    """Batches in an epoch; one example that is left over joins the last one."""
    whole, rest = divmod(examples, batch)
    return max(whole + (rest > 1), 1)


class Strategy:
    """A way to train on skewed classes; this one changes nothing (empirical risk minimisation).

    Hooks are called in this order: ``prepare_network`` and ``prepare_examples`` once, ``begin``
    once, then in each epoch ``make_sampler``, ``make_criterion``, for each batch
    ``transform_batch`` and ``auxiliary_step``, and ``on_epoch_end``; ``finish`` once after the last
    epoch. What must survive a kill is in ``state_dict``. Random numbers come from torch's global
    generators, which the loop seeds anew for each epoch.
    """

    #: ``on_epoch_end`` is given the probabilities of all training examples.
    needs_probabilities: bool = False
    #: It may ask for ``Task.reference``.
    needs_reference: bool = False
    #: It counts on pictures, not on the features of a frozen trunk.
    needs_pictures: bool = False
    #: It works on pictures with boxes too: it asks of an example no more than ``Task.present``.
    takes_boxes: bool = False
    #: The outputs answer for equal priors: correcting them by the priors would correct twice.
    balances: bool = True

    task: Task

    def prepare_network(self, network: nn.Module) -> nn.Module:
        """Change the architecture, such as its head, in place or by another network."""
        return network

    def prepare_examples(
        self, inputs: Tensor, targets: Tensor, *, classes: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Add or leave out training examples, once."""
        return inputs, targets

    def begin(self, task: Task) -> None:
        """Learn what will be trained on."""
        self.task = task

    def make_sampler(self, epoch: int) -> Tensor | None:
        """(N,) weights with which N examples are drawn, with replacement; None: all, shuffled."""
        return None

    def make_criterion(self, epoch: int) -> Criterion:
        """The loss of this epoch."""
        return F.cross_entropy

    def transform_batch(self, batch: Batch, network: nn.Module) -> Batch:
        """Change examples or targets; ``network`` is f, in training mode before and after."""
        return batch

    def auxiliary_step(self, batch: Batch, network: nn.Module) -> None:
        """Train networks of its own, after the step of f."""

    def on_epoch_end(self, epoch: int, probabilities: Tensor | None) -> None:
        """Look at the epoch.

        Args:
            epoch: which one has ended.
            probabilities: (N, K) float32 softmax of all training examples in evaluation mode
                without augmentation, on the CPU; None unless ``needs_probabilities``.
        """

    def mature_epoch(self) -> int:
        """The first epoch whose network may be the final one: early stopping looks no earlier."""
        return 0

    def adjusted(self, probabilities: Tensor) -> Tensor:
        """(N, K) softmax of the network in training as ``finish`` will make it, for validation."""
        return probabilities

    def finish(self, network: nn.Module) -> None:
        """Change the trained network in place, such as the bias of its head."""

    def diagnostics(self) -> dict[str, JsonValue]:
        """Figures of the epoch for ``metrics.jsonl``."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs; keys without spaces."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what ``state_dict`` gave, after ``begin``."""
