"""Which examples are held out for good: a hash of the task id decides, and nothing else.

So membership never changes, grows with the labels, and does not depend on their order, their
classes or a seed. Neither a network nor a miner may be fitted on what is held out.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from models.errors import ConfigError, ShapeError
from models.types import IntArray

BoolArray = NDArray[np.bool_]

#: Shares of the labels, and of what is not held out.
HELD_OUT, VALIDATION = 0.2, 0.15
# Changing a salt changes every split that was ever made: models would be judged on what they saw.
_HELD_OUT_SALT = b"rarefirst held out 1\0"
_VALIDATION_SALT = b"rarefirst validation 1\0"


def held_out(ids: IntArray, *, share: float = HELD_OUT) -> BoolArray:
    """(N,) whether each task is held out.

    Args:
        ids: (N,) task ids.
        share: in [0, 1], expected share; a smaller one holds out a part of what a larger one does.

    Raises:
        ConfigError: if the share is outside [0, 1].
        ShapeError: if the ids are not (N,) integers.
    """
    return _below(ids, _HELD_OUT_SALT, share)


def validation(
    ids: IntArray, *, share: float = VALIDATION, held_out_share: float = HELD_OUT
) -> BoolArray:
    """(N,) whether each task is for early stopping; none of them is held out.

    What is judged on must choose nothing, so a training that stops by figures gets others.

    Args:
        ids: (N,) task ids.
        share: in [0, 1], of the tasks that are not held out.
        held_out_share: what ``held_out`` was given.

    Raises:
        ConfigError: if a share is outside [0, 1].
        ShapeError: if the ids are not (N,) integers.
    """
    return _below(ids, _VALIDATION_SALT, share) & ~held_out(ids, share=held_out_share)


def _below(ids: IntArray, salt: bytes, share: float) -> BoolArray:
    if not 0 <= share <= 1:
        raise ConfigError(f"found a share of {share}; expected one in [0, 1]")
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ShapeError(f"found ids {ids.shape} of {ids.dtype}; expected (N,) integers")
    limit = round(share * 2**64)
    places = (
        int.from_bytes(hashlib.sha256(salt + str(number).encode()).digest()[:8], "big")
        for number in ids.tolist()
    )
    return np.fromiter((place < limit for place in places), dtype=bool, count=len(ids))
