"""A small skewed world, and the hooks of a strategy called as the training loop calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from models.rebalancing import Batch, Strategy, Task, make_strategy

Options = Mapping[str, float | int | str | bool]

#: CIFAR-10-LT with rho = 100 (METHODS section 15).
LONG_TAIL = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])

SKEWED = (24, 9, 3)
BATCH = 8


def targets_of(counts: Sequence[int]) -> Tensor:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(list(counts)))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


def features_of(targets: Tensor, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    centers = 2 * torch.randn(16, size, generator=generator)
    return centers[targets] + torch.randn(len(targets), size, generator=generator)


def pictures_of(targets: Tensor, side: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    centers = torch.randint(40, 216, (16, 3, 1, 1), generator=generator)
    noise = torch.randint(-40, 40, (len(targets), 3, side, side), generator=generator)
    return (centers[targets] + noise).to(torch.uint8)


class TinyNet(nn.Module):
    def __init__(self, classes: int, side: int = 8) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 12), nn.ReLU())
        self.norm = nn.BatchNorm1d(12)
        self.classifier = nn.Linear(12, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.norm(self.trunk(images)))
        return logits


def task_of(
    counts: Sequence[int] | Tensor,
    run_dir: Path = Path("/nowhere"),
    *,
    epochs: int = 5,
    inputs: Tensor | None = None,
    targets: Tensor | None = None,
    reference: nn.Module | None = None,
) -> Task:
    sizes = [int(n) for n in counts]
    y = targets_of(sizes) if targets is None else targets
    return Task(
        inputs=features_of(y) if inputs is None else inputs,
        targets=y,
        class_names=tuple(f"class {k}" for k in range(len(sizes))),
        epochs=epochs,
        batch=BATCH,
        seed=0,
        device=torch.device("cpu"),
        run_dir=run_dir,
        train_reference=None if reference is None else lambda: reference,
    )


def begun(strategy: Strategy, counts: Sequence[int] | Tensor, *, epochs: int = 5) -> Strategy:
    strategy.begin(task_of(counts, epochs=epochs))
    return strategy


class SmallRun:
    """A training of a few epochs; ``state`` of another one is taken up in the middle."""

    def __init__(
        self,
        name: str,
        counts: Sequence[int] = SKEWED,
        *,
        run_dir: Path,
        options: Options | None = None,
        pictures: bool = False,
        epochs: int = 5,
        restart: Mapping[str, Tensor] | None = None,
    ) -> None:
        torch.manual_seed(7)
        self.strategy = make_strategy(name, options or {})
        given = targets_of(counts)
        given_inputs = pictures_of(given) if pictures else features_of(given)
        plain: nn.Module = TinyNet(len(counts)) if pictures else nn.Linear(6, len(counts))
        reference = TinyNet(len(counts)) if pictures else nn.Linear(6, len(counts))
        self.network = self.strategy.prepare_network(plain)
        inputs, targets = self.strategy.prepare_examples(
            given_inputs, given, classes=len(counts), seed=0
        )
        self.given, self.given_inputs = given, given_inputs
        self.task = task_of(
            counts,
            run_dir,
            epochs=epochs,
            inputs=inputs,
            targets=targets,
            reference=reference.eval().requires_grad_(False),
        )
        self.strategy.begin(self.task)
        if restart is not None:
            self.strategy.load_state_dict(dict(restart))
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.05)
        self.losses: list[float] = []

    def batch(self, rows: Tensor, epoch: int) -> Batch:
        inputs = self.task.inputs[rows]
        if inputs.dtype == torch.uint8:
            inputs = inputs.float() / 255
        return Batch(inputs, self.task.targets[rows], rows, epoch)

    def epoch(self, epoch: int) -> None:
        torch.manual_seed(1000 + epoch)
        weights = self.strategy.make_sampler(epoch)
        criterion = self.strategy.make_criterion(epoch)
        size = len(self.task.targets)
        order = (
            torch.randperm(size)
            if weights is None
            else torch.multinomial(weights, size, replacement=True)
        )
        self.network.train()
        for rows in order.split(BATCH):
            if len(rows) < 2:
                continue
            batch = self.strategy.transform_batch(self.batch(rows, epoch), self.network)
            loss = criterion(self.network(batch.inputs), batch.targets)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.losses.append(float(loss.detach()))
            self.strategy.auxiliary_step(batch, self.network)
        said = self.probabilities() if self.strategy.needs_probabilities else None
        self.strategy.on_epoch_end(epoch, said)

    def probabilities(self) -> Tensor:
        self.network.eval()
        every = torch.arange(len(self.task.targets))
        with torch.no_grad():
            logits = self.network(self.batch(every, 0).inputs)
        return torch.softmax(logits, dim=1)
