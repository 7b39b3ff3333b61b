"""Several strategies at once, and the combinations that have a name."""

from __future__ import annotations

from pydantic import JsonValue
from torch import Tensor, nn

from models.errors import ConfigError
from models.rebalancing.base import Batch, Criterion, Strategy, Task
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.difficulty import Difficulty
from models.rebalancing.ldam import Ldam
from models.rebalancing.m2m import M2m
from models.rebalancing.prior_scaling import PriorScaling


class Combined(Strategy):
    """The hooks of all parts, one after another.

    The sampler is that of the only part that has one, the loss that of the last part that has one.

    Args:
        parts: strategies, at least one; a ``Combined`` among them counts as its parts.

    Raises:
        ConfigError: if two parts choose what is drawn, or the priors are taken off a network that
            another part balances.
    """

    def __init__(self, *parts: Strategy) -> None:
        self.parts: list[Strategy] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, Combined) else [part]
        if not self.parts:
            raise ConfigError("found no strategy to combine; expected one at least")
        self._samplers = _overriding(self.parts, "make_sampler")
        self._criteria = _overriding(self.parts, "make_criterion")
        if len(self._samplers) > 1:
            raise ConfigError(
                f"{_names(self._samplers)} each choose what is drawn; combine one of them only"
            )
        scaling = [part for part in self.parts if isinstance(part, PriorScaling)]
        balancing = [part for part in self.parts if part.balances and part not in scaling[:1]]
        if scaling and balancing:
            raise ConfigError(
                f"prior_scaling would correct what {_names(balancing)} balances already; "
                "combine it with erm or focal only"
            )
        # What the base class says of a class depends on the parts here.
        for name in ("needs_probabilities", "needs_reference", "needs_pictures", "balances"):
            setattr(self, name, any(getattr(part, name) for part in self.parts))

    def prepare_network(self, network: nn.Module) -> nn.Module:
        """One part after another."""
        for part in self.parts:
            network = part.prepare_network(network)
        return network

    def prepare_examples(
        self, inputs: Tensor, targets: Tensor, *, classes: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """One part after another."""
        for part in self.parts:
            inputs, targets = part.prepare_examples(inputs, targets, classes=classes, seed=seed)
        return inputs, targets

    def begin(self, task: Task) -> None:
        """Tell all parts."""
        super().begin(task)
        for part in self.parts:
            part.begin(task)

    def make_sampler(self, epoch: int) -> Tensor | None:
        """Of the part that has one."""
        return self._samplers[0].make_sampler(epoch) if self._samplers else None

    def make_criterion(self, epoch: int) -> Criterion:
        """Of the last part that has one."""
        chosen = self._criteria[-1] if self._criteria else self.parts[-1]
        return chosen.make_criterion(epoch)

    def transform_batch(self, batch: Batch, network: nn.Module) -> Batch:
        """One part after another."""
        for part in self.parts:
            batch = part.transform_batch(batch, network)
        return batch

    def auxiliary_step(self, batch: Batch, network: nn.Module) -> None:
        """One part after another."""
        for part in self.parts:
            part.auxiliary_step(batch, network)

    def on_epoch_end(self, epoch: int, probabilities: Tensor | None) -> None:
        """Tell all parts."""
        for part in self.parts:
            part.on_epoch_end(epoch, probabilities if part.needs_probabilities else None)

    def mature_epoch(self) -> int:
        """When all parts are."""
        return max(part.mature_epoch() for part in self.parts)

    def adjusted(self, probabilities: Tensor) -> Tensor:
        """One part after another."""
        for part in self.parts:
            probabilities = part.adjusted(probabilities)
        return probabilities

    def finish(self, network: nn.Module) -> None:
        """One part after another."""
        for part in self.parts:
            part.finish(network)

    def diagnostics(self) -> dict[str, JsonValue]:
        """The figures of all parts."""
        return {name: value for part in self.parts for name, value in part.diagnostics().items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Keys start with the number of the part."""
        return {
            f"{number}.{name}": value
            for number, part in enumerate(self.parts)
            for name, value in part.state_dict().items()
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Give each part its own."""
        for number, part in enumerate(self.parts):
            start = f"{number}."
            part.load_state_dict(
                {
                    name.removeprefix(start): value
                    for name, value in state.items()
                    if name.startswith(start)
                }
            )


def _overriding(parts: list[Strategy], hook: str) -> list[Strategy]:
    return [part for part in parts if getattr(type(part), hook) is not getattr(Strategy, hook)]


def _names(parts: list[Strategy]) -> str:
    return ", ".join(type(part).__name__ for part in parts)


def m2m_ldam(
    *,
    beta: float | None = None,
    strength: float = 0.5,
    gamma: float = 0.9,
    steps: int = 10,
    step_size: float = 0.1,
    start: str = "ball",
    deferred: float = 0.8,
    max_margin: float = 0.5,
    scale: float = 30.0,
) -> Combined:
    """M2m with LDAM's margins in place of cross-entropy.

    As in M2m's released code the classes are balanced once, by its sampler: LDAM's late weights
    stay off. There lambda multiplies a cosine and here a logit, so it is divided by the scale.

    Args:
        beta: of ``m2m``.
        strength: lambda of ``m2m``, of a cosine.
        gamma: of ``m2m``.
        steps: of ``m2m``.
        step_size: of ``m2m``.
        start: of ``m2m``.
        deferred: of ``m2m``.
        max_margin: of ``ldam``.
        scale: of ``ldam``, > 0.
    Source: Kim et al. 2020, arXiv:2004.00431, section 4.1.
    """
    ldam = Ldam(max_margin=max_margin, scale=scale, deferred=1.0)
    m2m = M2m(
        beta=beta,
        strength=strength / scale,
        gamma=gamma,
        steps=steps,
        step_size=step_size,
        start=start,
        deferred=deferred,
    )
    return Combined(m2m, ldam)


def difficulty_class_balanced(
    *,
    c: float = 1.0,
    cap: float = 0.999,
    replacement: bool = False,
    beta: float = 0.9999,
) -> Combined:
    """Drawn by difficulty, weighted by class.

    Args:
        c: of ``difficulty``.
        cap: of ``difficulty``.
        replacement: of ``difficulty``.
        beta: of ``class_balanced``.
    """
    return Combined(Difficulty(c=c, cap=cap, replacement=replacement), ClassBalanced(beta=beta))
