"""Major-to-minor translation: rare examples made from common ones, against a frozen classifier.

In a class-balanced batch most examples of rare classes are repetitions. M2m puts in their place an
example of a larger class of the same batch, moved until g, a frozen classifier, is sure that it is
of the rare class, while f, the network in training, is not to see its old class in it:

    x* = argmin  CE(g(x), k) + strength * f_k0(x),    f_k0 the raw logit        (eq. 1)
    P(reject | k0, k) = beta^max(N_k0 - N_k, 0)                                 (eq. 2)
    Q(k0 | k) proportional to 1 - beta^max(N_k0 - N_k, 0)                       (eq. 4)

Source: Kim, Jeong and Shin 2020, arXiv:2004.00431, and its released code; METHODS section 11 says
what was settled where the two differ.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from pydantic import JsonValue
from torch import Tensor, nn

from models.errors import ConfigError
from models.networks.folding import FoldedCopy
from models.rebalancing.base import Batch, Strategy, Task

_LEAST_NORM = 1e-10  # of a gradient; a picture at its bounds has none
_START_NORM = 0.5


class M2m(Strategy):
    """Oversampling by translated examples, from a share of the epochs on.

    Args:
        beta: of the rejection, in [0, 1); None: so that the largest class is accepted for the
            smallest with 99 %, .01^(1 / (N_1 - N_K)), since .999 accepts next to nothing where
            classes differ by less than a hundred.
        strength: lambda, how much f's logit of the old class counts.
        gamma: probability of the new class under g from which a translation is accepted.
        steps: T, of the descent.
        step_size: eta, the length of each step, in units of the inputs.
        start: ``ball``: from a random point within .5 of the seed; ``released``: as the released
            code's normalisation has it, which runs over the batch and comes to less; ``none``.
        seeds: ``major``, or ``clean``, the ablation that takes the seed itself.
        labels: ``target``, or ``random``, the ablation that labels a translation by chance.
        deferred: share of the epochs before it begins; until then everything is as in ``erm``.
    """

    needs_reference = True
    balances = True

    def __init__(
        self,
        *,
        beta: float | None = None,
        strength: float = 0.5,
        gamma: float = 0.9,
        steps: int = 10,
        step_size: float = 0.1,
        start: str = "ball",
        seeds: str = "major",
        labels: str = "target",
        deferred: float = 0.8,
    ) -> None:
        for name, value, known in (
            ("start", start, ("ball", "released", "none")),
            ("seeds", seeds, ("major", "clean")),
            ("labels", labels, ("target", "random")),
        ):
            if value not in known:
                raise ConfigError(f"m2m: found {name} {value!r}; expected {' or '.join(known)}")
        fits = (beta is None or 0 <= beta < 1) and steps >= 0 and int(steps) == steps
        if not fits or step_size <= 0 or strength < 0:
            raise ConfigError(
                f"m2m: found beta {beta}, steps {steps}, step_size {step_size}, strength "
                f"{strength}; expected 0 <= beta < 1, a whole number of steps >= 0, step_size > 0, "
                "strength >= 0"
            )
        if not 0 <= gamma <= 1 or not 0 <= deferred <= 1:
            raise ConfigError(
                f"m2m: found gamma {gamma} and deferred {deferred}; expected both in [0, 1]"
            )
        self.beta, self.strength, self.gamma = beta, strength, gamma
        self.steps, self.step_size, self.start = int(steps), step_size, start
        self.seeds, self.labels, self.deferred = seeds, labels, deferred

    def begin(self, task: Task) -> None:
        """Learn the counts; ConfigError without the network g."""
        super().begin(task)
        self._from = task.from_epoch(self.deferred)
        counts = task.counts.double()
        beta = default_beta(counts) if self.beta is None else self.beta
        self._accept = acceptance(counts, beta).to(task.device)
        self._marked = (1 - counts / float(counts.max())).to(task.device)
        self._weights = torch.where(counts > 0, 1 / counts.clamp_min(1), 0.0)[task.targets.cpu()]
        self._g: nn.Module | None = None
        self._f: FoldedCopy | None = None
        if self._accept.any():  # else no class is larger than another, and nothing is translated
            if task.reference is None:
                raise ConfigError("m2m needs the network g; expected a reference in the task")
            self._g = FoldedCopy(task.reference).network
        self._forget()

    def mature_epoch(self) -> int:
        """The first epoch with translations."""
        return self._from % self.task.epochs

    def make_sampler(self, epoch: int) -> Tensor | None:
        """Classes alike, once it has begun."""
        return None if epoch < self._from else self._weights

    def transform_batch(self, batch: Batch, network: nn.Module) -> Batch:
        """Put translations in the place of repeated examples."""
        if batch.epoch < self._from:
            return batch
        places, seeds = self._draw(batch.targets)
        if not len(places):
            return batch
        wanted, old = batch.targets[places], batch.targets[seeds]
        x0 = batch.inputs[seeds]
        if x0.ndim == 4:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        made, sure = self._translate(x0, wanted, old, network)
        good = sure >= self.gamma
        self._count(wanted, good)
        if self.seeds == "clean":
            made = x0
        labels = wanted
        if self.labels == "random":
            labels = _other_labels(wanted, old, self.task.classes)
        inputs, targets = batch.inputs.clone(), batch.targets.clone()
        inputs[places[good]] = made[good].to(inputs.dtype)
        targets[places[good]] = labels[good]
        return replace(batch, inputs=inputs, targets=targets)

    def on_epoch_end(self, epoch: int, probabilities: Tensor | None) -> None:
        """Keep the epoch's counts for ``diagnostics``."""
        self._epoch = (self._tried.tolist(), self._accepted.tolist())
        self._forget()

    def diagnostics(self) -> dict[str, JsonValue]:
        """Translations tried and accepted, by class."""
        tried, accepted = self._epoch
        if not any(tried):
            return {}
        names = self.task.class_names
        return {
            "m2m_tried": dict(zip(names, tried, strict=True)),
            "m2m_accepted": dict(zip(names, accepted, strict=True)),
        }

    def _forget(self) -> None:
        self._tried = torch.zeros(self.task.classes, dtype=torch.int64)
        self._accepted = torch.zeros_like(self._tried)

    def _count(self, wanted: Tensor, good: Tensor) -> None:
        size = self.task.classes
        self._tried += torch.bincount(wanted.cpu(), minlength=size)
        self._accepted += torch.bincount(wanted[good].cpu(), minlength=size)

    def _draw(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Which examples of the batch are replaced, and what they are made from.

        The rejection does not look at what was made, so it is drawn first and spares the making.

        Returns: (G,) places, and (G,) places of their seeds in the same batch.
        """
        marked = torch.rand(len(targets), device=targets.device) < self._marked[targets]
        chances = self._accept[targets][:, targets]  # (B, B): row i from seed j
        places = torch.nonzero(marked & (chances.sum(dim=1) > 0)).squeeze(1)
        if not len(places):
            return places, places
        seeds = torch.multinomial(chances[places], 1).squeeze(1)
        kept = torch.rand(len(places), device=targets.device) < chances[places, seeds]
        return places[kept], seeds[kept]

    def _translate(
        self, x0: Tensor, wanted: Tensor, old: Tensor, network: nn.Module
    ) -> tuple[Tensor, Tensor]:
        """Descend from seeds; (G, ...) what came out, and (G,) g's probability of ``wanted``."""
        g = self._g
        assert g is not None  # there is a larger class
        if self._f is None:
            self._f = FoldedCopy(network)
        f = self._f.refresh(network)
        low, high = self.task.low, self.task.high
        x = _clip(x0 + self._noise(x0), low, high)
        for _ in range(self.steps):
            x = x.detach().requires_grad_(True)
            loss: Tensor = F.cross_entropy(g(x).float(), wanted, reduction="sum")
            if self.strength:
                loss = loss + self.strength * f(x).float().gather(1, old[:, None]).sum()
            (slope,) = torch.autograd.grad(loss, x)
            x = _clip(x.detach() - self.step_size * _unit(slope), low, high)
        with torch.no_grad():
            sure: Tensor = F.softmax(g(x).float(), dim=1).gather(1, wanted[:, None]).squeeze(1)
        return x.detach(), sure

    def _noise(self, like: Tensor) -> Tensor:
        if self.start == "none":
            return torch.zeros_like(like)
        noise = torch.rand_like(like) - 0.5
        # Over the channels across the batch, as released, or within each example.
        rows = noise.flatten(1) if self.start == "ball" or like.ndim != 4 else noise
        bounded: Tensor = torch.renorm(rows, 2, 0 if rows.ndim == 2 else 1, _START_NORM)
        return bounded.view_as(like)


def acceptance(counts: Tensor, beta: float) -> Tensor:
    """How likely a seed of one class is accepted for another.

    Args:
        counts: (K,) labels of each class.
        beta: in [0, 1); 0 accepts every larger class.
    Returns: (K, K) float64; row k, column k0: 1 - beta^max(N_k0 - N_k, 0). Classes without a label
        have zeros, as targets (g cannot know them) and as seeds.
    """
    n = counts.double()
    larger = (n[None, :] - n[:, None]).clamp_min(0)
    chance = torch.where(larger > 0, 1 - torch.as_tensor(beta, dtype=n.dtype) ** larger, 0.0)
    known = (n > 0).double()
    return chance * known[:, None] * known[None, :]


def default_beta(counts: Tensor) -> float:
    """The beta at which the largest class is accepted for the smallest with 99 %."""
    present = counts[counts > 0]
    gap = float(present.max() - present.min())
    return 0.01 ** (1 / gap) if gap > 0 else 0.0


def _unit(slope: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(slope, dim=tuple(range(1, slope.ndim)), keepdim=True)
    return slope / (norm + _LEAST_NORM)


def _clip(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    if isinstance(low, Tensor) and isinstance(high, Tensor):
        return torch.minimum(torch.maximum(x, low), high)
    return x.clamp(float(low), float(high))


def _other_labels(wanted: Tensor, old: Tensor, classes: int) -> Tensor:
    """Labels by chance, neither the new class nor the seed's, where there is a third one."""
    chances = torch.ones(len(wanted), classes, device=wanted.device)
    chances.scatter_(1, wanted[:, None], 0.0).scatter_(1, old[:, None], 0.0)
    if classes < 3:
        return wanted
    return torch.multinomial(chances, 1).squeeze(1)
