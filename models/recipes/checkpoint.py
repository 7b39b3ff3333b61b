"""What a killed training goes on from: one safetensors file, replaced in one step."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from models.files import write_file, write_text

logger = logging.getLogger(__name__)


def save_checkpoint(path: Path, parts: dict[str, dict[str, Tensor]], about: dict[str, Any]) -> None:
    """Write named groups of tensors, and what JSON can hold."""
    tensors = {
        f"{part}.{name}": value.detach().cpu().contiguous().clone()
        for part, state in parts.items()
        for name, value in state.items()
    }
    said = {"about": json.dumps(about)}
    write_file(path, lambda temporary: save_file(tensors, temporary, metadata=said))


def read_checkpoint(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """What ``save_checkpoint`` wrote; None where there is nothing that can be read."""
    if not path.exists():
        return None
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            for key in file.keys():  # noqa: SIM118 - no dict
                part, _, name = key.partition(".")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (
        SafetensorError,
        OSError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
    ) as error:
        logger.warning("the checkpoint %s is of no use, training starts anew: %s", path, error)
        return None
    return parts, about


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """The moments of an optimiser, by number of the parameter and name."""
    return {
        f"{number}.{name}": value
        for number, moments in optimiser.state_dict()["state"].items()
        for name, value in moments.items()
        if isinstance(value, Tensor)
    }


def restore_optimiser(optimiser: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take back what ``optimiser_tensors`` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )


def cut_metrics(path: Path, key: str, *, after: int) -> None:
    """Drop lines of what the resumed run does again, and a line that a kill cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            number = int(json.loads(line)[key])
        except (ValueError, KeyError, TypeError):
            break
        if number > after:
            break
        kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
