"""The labeled pictures of a project, of whatever kind of label: what each may be used for."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sized
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ShapeError
from models.types import IntArray

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class LabeledSet(ABC):
    """N labeled pictures; a kind of label adds the labels.

    Attributes:
        pictures: (N, C, S, S) uint8.
        ids: (N,) int64, the task ids.
        class_names: K names.
        tail: indices of the rare classes.
        held_out: (N,) for judging only: nothing is fitted on them.
        seen: (N,) those that the incumbent's network was trained on: nothing is judged by them.
        validation: (N,) for early stopping only; none of them is held out.
    """

    pictures: Tensor
    ids: IntArray
    class_names: tuple[str, ...]
    tail: tuple[int, ...]
    held_out: BoolArray
    seen: BoolArray
    validation: BoolArray

    @property
    def judged(self) -> BoolArray:
        """(N,) held-out pictures that neither network was fitted on."""
        return self.held_out & ~self.seen

    @abstractmethod
    def counts(self, chosen: BoolArray) -> IntArray:
        """(K,) labels of each class on the chosen pictures."""

    @abstractmethod
    def digest(self) -> str:
        """sha256 of everything in it."""

    def _check(self, labels: Sized, what: str) -> None:
        """Refuse what is not one for each picture, and rare classes that are none.

        Raises: ShapeError: with what was found.
        """
        rows = (labels, self.ids, self.held_out, self.seen, self.validation)
        if {len(self.pictures)} != {len(row) for row in rows}:
            raise ShapeError(
                f"found {len(self.pictures)} pictures, {len(labels)} {what}, "
                f"{len(self.ids)} ids and masks of {len(self.held_out)} and {len(self.seen)}; "
                "expected as many of each"
            )
        size = len(self.class_names)
        if any(not 0 <= k < size for k in self.tail):
            raise ShapeError(f"found tail classes {list(self.tail)}; expected numbers below {size}")

    def _digest(self, words: Iterable[object], arrays: Iterable[NDArray[np.generic]]) -> str:
        """sha256 of these, then of what every kind has."""
        digest = hashlib.sha256(json.dumps([self.class_names, self.tail, *words]).encode())
        for array in (*arrays, self.ids, self.held_out, self.seen, self.validation):
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
        digest.update(f"{tuple(self.pictures.shape)}".encode())
        for picture in self.pictures:
            digest.update(picture.numpy().tobytes())
        return digest.hexdigest()
