"""Linear layers over many cached features: one product a batch, nothing copied whole.

Features are kept in half precision. A batch of them is turned into single precision in a buffer
that stays in the processor's cache, and all layers are computed from it in one product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import ShapeError
from models.types import Examples, FloatArray

if TYPE_CHECKING:
    from models.recalibration import RecalibrationLayer

_CACHE_BYTES = 9 * 2**19  # of one batch with its results; larger ones are slower
_LEAST, _MOST = 64, 8192
_JOINED = 8  # batches whose logits are looked at together: enough for all threads
_LANES = 16  # products of narrow matrices are fastest at whole vector registers


def batch_rows(width: int, columns: int = 0) -> int:
    """Rows of a batch: as many as fit the cache with their results."""
    rows = _CACHE_BYTES // (4 * (width + 2 * columns))
    return int(min(max(rows - rows % _LEAST, _LEAST), _MOST))


def feature_batches(examples: Examples, rows: int) -> Iterator[tuple[int, Tensor]]:
    """Batches of features as (start, (B, D) float32); a batch lasts until the next one."""
    stored = tensor_of(examples.features)
    size = min(rows, len(examples))
    single = torch.empty((size, stored.shape[1]), dtype=torch.float32)
    gathered = torch.empty((0, stored.shape[1]), dtype=stored.dtype)
    if examples.at is not None and not _is_run(examples.at):
        gathered = torch.empty((size, stored.shape[1]), dtype=stored.dtype)
    for start in range(0, len(examples), rows):
        stop = min(start + rows, len(examples))
        batch = single[: stop - start]
        if examples.at is None:
            batch.copy_(stored[start:stop])
        elif _is_run(examples.at[start:stop]):
            first = int(examples.at[start])
            batch.copy_(stored[first : first + stop - start])
        else:
            some = gathered[: stop - start]
            at = torch.from_numpy(np.ascontiguousarray(examples.at[start:stop], dtype=np.int64))
            torch.index_select(stored, 0, at, out=some)
            batch.copy_(some)
        yield start, batch


class Stacked:
    """Layers from the same D features, as one (D, sum of K) product.

    Args:
        layers: at least one; each (D, K).
    """

    def __init__(self, layers: Sequence[RecalibrationLayer]) -> None:
        self._ends = np.cumsum([len(layer.bias) for layer in layers]).tolist()
        self.width = len(layers[0].weight)
        columns = -(-self._ends[-1] // _LANES) * _LANES
        self._weight = torch.zeros((self.width, columns))
        self._bias = torch.empty(self._ends[-1])
        for layer, end in zip(layers, self._ends, strict=True):
            begin = end - len(layer.bias)
            self._weight[:, begin:end] = torch.from_numpy(layer.weight)
            self._bias[begin:end] = torch.from_numpy(layer.bias)

    def batches(self, examples: Examples) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        """For each batch of examples its start and the (K, B) float32 logits of every layer.

        Classes are in rows: what is computed over them then goes along whole vector registers,
        twenty times as fast with ten classes. The logits last until the next batch.

        Raises: ShapeError: if features are not finite or not D wide.
        """
        width = examples.features.shape[-1]
        if examples.features.ndim != 2 or width != self.width:
            raise ShapeError(
                f"found features {examples.features.shape}; the layer was fitted on (N, "
                f"{self.width}) by another frozen model; fit again"
            )
        rows = batch_rows(self.width, self._weight.shape[1])
        last = self._ends[-1]
        products = torch.empty((min(rows, len(examples)), self._weight.shape[1]))
        turned = torch.empty(last * min(rows * _JOINED, len(examples)))
        for begin in range(0, len(examples), rows * _JOINED):
            some = examples.slice(begin, min(begin + rows * _JOINED, len(examples)))
            logits = turned[: last * len(some)].view(last, len(some))
            for start, features in feature_batches(some, rows):
                count = len(features)
                torch.mm(features, self._weight, out=products[:count])
                part = logits[:, start : start + count]
                torch.add(products[:count, :last].T, self._bias[:, None], out=part)
            # NaN and infinity of a feature reach every logit: no look at the features is needed.
            if not math.isfinite(float(logits.sum())):
                for start, features in feature_batches(some, len(some)):
                    refuse_infinite(some.ids[start:], features)
            yield begin, tuple(logits[first:end] for first, end in pairwise([0, *self._ends]))


def tensor_of(array: FloatArray) -> Tensor:
    """The same memory as a tensor, for reading only; also of arrays that may not be written."""
    if array.flags.writeable:
        return torch.from_numpy(array)
    return torch.from_numpy(np.asarray(_Alias(array)))


class _Alias:
    """An array's memory without its write protection, which torch warns of."""

    def __init__(self, array: FloatArray) -> None:
        self._kept = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _is_run(rows: NDArray[np.int64]) -> bool:
    """Whether the rows are one piece, in order."""
    return len(rows) > 0 and bool((np.diff(rows) == 1).all())


def refuse_infinite(ids: NDArray[np.int64], features: Tensor) -> NoReturn:
    """Say which features of a batch cannot be computed with.

    Raises: ShapeError: always.
    """
    bad = ids[~torch.isfinite(features).all(dim=1).numpy()]
    if not len(bad):
        raise ShapeError(
            "features are finite but too large for single precision; embed those images again"
        )
    raise ShapeError(
        f"features of {len(bad)} examples are NaN or infinite (ids {bad[:5].tolist()}); "
        "embed those images again"
    )
