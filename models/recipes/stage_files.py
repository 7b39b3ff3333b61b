"""What stages of a long run leave behind, so that a killed one does not do them again."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models.errors import ConfigError
from models.files import write_file, write_text

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[np.generic]]

_INPUTS = "inputs.json"


def stage(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """What ``make`` gives, from the file where a run before has left it.

    Args:
        path: the file, which appears whole or not at all; its folder is made.
        make: the stage itself, called where there is no file that can be read.
    """
    if path.exists():
        try:
            return dict(load_file(path))
        except (SafetensorError, OSError, ValueError) as error:
            logger.warning("%s is of no use, the stage is done again: %s", path, error)
    made = {name: np.ascontiguousarray(value) for name, value in make().items()}
    write_file(path, lambda temporary: save_file(made, temporary))
    return made


def claim(run_dir: Path, digest: str) -> None:
    """Take a folder for a run; stages of other inputs must not pass for its own.

    Args:
        run_dir: new, or claimed before for the same inputs.
        digest: of all that decides what the stages give.
    Raises: ConfigError: if another run left it.
    """
    path = run_dir / _INPUTS
    try:
        found = json.loads(path.read_text())["digest"]
    except FileNotFoundError:
        write_text(path, json.dumps({"digest": digest}))
        return
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); delete {run_dir}") from error
    if found != digest:
        raise ConfigError(
            f"{run_dir} holds a run on other labels, pictures or settings (inputs {found[:12]}, "
            f"here {digest[:12]}); take a new folder"
        )
