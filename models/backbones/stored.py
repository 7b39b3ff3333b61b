"""A frozen model in its folder: card and weights, whole or not at all, and what tells it apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import CorruptVersion
from models.files import write_folder

_CARD, _TENSORS = "card.json", "weights.safetensors"
_Card = TypeVar("_Card", bound=BaseModel)


class Fingerprinted(Protocol):
    """What knows the digest of everything that decides its features."""

    @property
    def fingerprint(self) -> str:
        """Hexadecimal sha256."""


def write_model(folder: Path, card: BaseModel, network: nn.Module) -> None:
    """Write weights and card into a new folder, which appears whole or not at all."""

    def write(temporary: Path) -> None:
        state = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in network.state_dict().items()
        }
        save_file(state, temporary / _TENSORS)
        (temporary / _CARD).write_text(card.model_dump_json(indent=2))

    write_folder(folder, write)


def read_model(folder: Path, kind: type[_Card]) -> tuple[_Card, dict[str, Tensor]]:
    """The card and the weights that ``write_model`` wrote.

    Raises: CorruptVersion: if files are missing or damaged.
    """
    try:
        card = kind.model_validate_json((folder / _CARD).read_bytes())
        return card, load_file(folder / _TENSORS)
    except (OSError, ValidationError, SafetensorError) as error:
        raise CorruptVersion(
            f"the frozen model in {folder} cannot be read ({type(error).__name__}: {error}); "
            "delete the folder, it is made again"
        ) from error


@contextmanager
def refused_if_unfit(folder: Path) -> Iterator[None]:
    """Building a network as its card says, and putting the weights that were read into it.

    Raises: CorruptVersion: if the card names what cannot be, or the weights do not fit.
    """
    try:
        yield
    # What torch and importlib say of it.
    except (RuntimeError, TypeError, ValueError) as error:
        raise CorruptVersion(f"the weights in {folder} do not fit its card: {error}") from error


def check(loaded: Fingerprinted, said: str, folder: Path) -> None:
    """Refuse a model that is not the one that was saved.

    Raises: CorruptVersion: if its fingerprint is not what the card says.
    """
    if loaded.fingerprint != said:
        raise CorruptVersion(
            f"the frozen model in {folder} has fingerprint {loaded.fingerprint[:12]}, its card "
            f"says {said[:12]}; delete the folder, it is made again"
        )


def fingerprint_of(about: Sequence[object], network: nn.Module) -> str:
    """sha256 of some JSON and of every weight, by name, kind and shape."""
    digest = hashlib.sha256(json.dumps(about).encode())
    for name, value in sorted(network.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name}\0{array.dtype}\0{tuple(array.shape)}\0".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
