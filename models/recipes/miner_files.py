"""The files of a fitted miner: what is said where they are missing or damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError

from models.errors import ConfigError, CorruptVersion

#: What reading the card and the arrays of either miner may raise.
DAMAGE = (OSError, ValidationError, SafetensorError, KeyError, ConfigError)


@contextmanager
def refused_if_damaged(folder: Path, *signs: type[Exception]) -> Iterator[None]:
    """Reading a stored miner; ``signs`` are what a missing or damaged file shows as.

    Raises: CorruptVersion: in place of one of them.
    """
    try:
        yield
    except signs as error:
        raise CorruptVersion(
            f"the miner in {folder} cannot be read ({type(error).__name__}: {error}); delete the "
            "folder, the next fit makes a new one"
        ) from error
