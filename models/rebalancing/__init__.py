"""Ways to train on skewed classes. A new one is one file and one line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from models.errors import ConfigError
from models.rebalancing.base import Batch, Criterion, Strategy, Task
from models.rebalancing.class_balanced import ClassBalanced
from models.rebalancing.combined import Combined, difficulty_class_balanced, m2m_ldam
from models.rebalancing.deferred import Drs, Drw
from models.rebalancing.difficulty import Difficulty
from models.rebalancing.erm import Erm
from models.rebalancing.focal import Focal
from models.rebalancing.joint_generation import JointGeneration
from models.rebalancing.ldam import Ldam
from models.rebalancing.logit_adjustment import BalancedSoftmax, LogitAdjusted
from models.rebalancing.m2m import M2m
from models.rebalancing.prior_scaling import PriorScaling
from models.rebalancing.repeat_factor import RepeatFactor
from models.rebalancing.resample import Resample
from models.rebalancing.reweight import Reweight
from models.rebalancing.smote import Smote

#: Called with the options by name; what a ``partial`` fixes is no option.
STRATEGIES: Mapping[str, Callable[..., Strategy]] = MappingProxyType(
    {
        "erm": Erm,
        "focal": Focal,
        "resample": Resample,
        "repeat_factor": RepeatFactor,
        "reweight": Reweight,
        "class_balanced": ClassBalanced,
        "drs": Drs,
        "drw": Drw,
        "ldam": Ldam,
        "balanced_softmax": BalancedSoftmax,
        "logit_adjusted": LogitAdjusted,
        "prior_scaling": PriorScaling,
        "smote": Smote,
        "difficulty": Difficulty,
        "difficulty_class_balanced": difficulty_class_balanced,
        "m2m": M2m,
        "m2m_no_lambda": partial(M2m, strength=0.0),
        "m2m_random_labels": partial(M2m, labels="random"),
        "m2m_clean": partial(M2m, seeds="clean"),
        "m2m_undeferred": partial(M2m, deferred=0.0),
        "m2m_ldam": m2m_ldam,
        "joint_generation_aug": partial(JointGeneration, mode="aug"),
        "joint_generation_alt": partial(JointGeneration, mode="alt"),
    }
)

#: Those that work on pictures with boxes too.
BOX_STRATEGIES: tuple[str, ...] = tuple(
    name for name, make in STRATEGIES.items() if getattr(make, "takes_boxes", False)
)


def make_strategy(name: str, options: Mapping[str, float | int | str | bool]) -> Strategy:
    """The strategy of a name.

    Args:
        name: of ``STRATEGIES``.
        options: its parameters, by name.

    Raises:
        ConfigError: for an unknown name, an option it does not take, or a value that cannot be.
    """
    make = STRATEGIES.get(name)
    if make is None:
        raise ConfigError(f"found strategy {name!r}; expected one of {', '.join(STRATEGIES)}")
    taken = options_of(name)
    unknown = [option for option in options if option not in taken]
    if unknown:
        raise ConfigError(
            f"{name} has no option {', '.join(unknown)}; it takes {', '.join(taken) or 'none'}"
        )
    try:
        return make(**options)
    except ConfigError as error:
        said = str(error).removeprefix(f"{name}: ")
        raise ConfigError(f"{name}: {said}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name} cannot have {dict(options)}: {error}") from error


def options_of(name: str) -> tuple[str, ...]:
    """The options that the strategy of a name takes."""
    make = STRATEGIES[name]
    fixed = make.keywords if isinstance(make, partial) else {}
    parameters = inspect.signature(make).parameters.values()
    return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in fixed)


__all__ = [
    "BOX_STRATEGIES",
    "STRATEGIES",
    "Batch",
    "Combined",
    "Criterion",
    "Strategy",
    "Task",
    "make_strategy",
    "options_of",
]
