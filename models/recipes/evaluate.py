"""How well a frozen model with a head over the classes does on labeled pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from torch import Tensor

from models.backbones import Backbone
from models.class_metrics import ClassMetrics
from models.errors import ConfigError, ShapeError
from models.types import FloatArray, IntArray

_BATCH = 64  # pictures in one forward pass


def evaluate(
    backbone: Backbone,
    images: Sequence[Image.Image],
    targets: Sequence[int] | IntArray,
    class_names: Sequence[str],
    tail: Sequence[int] = (),
) -> ClassMetrics:
    """Judge a model by labeled pictures that it was not trained on.

    Args:
        backbone: its head is over ``class_names``.
        images: N pictures; each is asked for once, in order.
        targets: N indices into ``class_names``.
        class_names: the project's, in its order.
        tail: indices of the rare ones.

    Raises:
        ConfigError: if the model has no head over these classes.
        ShapeError: if there is not one target in [0, K) for each picture, or no picture.
        ImageError: if the pixels of a picture cannot be decoded.
    """
    names, labels = tuple(class_names), np.asarray(targets, dtype=np.int64)
    if backbone.class_names != names:
        known = ", ".join(backbone.class_names or ()) or "no class of a project"
        raise ConfigError(
            f"the model's head tells apart {known}; expected {', '.join(names)} in this order: "
            "fine-tune it on the project's labels first"
        )
    if len(labels) != len(images) or not len(labels):
        raise ShapeError(
            f"found {len(images)} pictures and {len(labels)} targets; expected as many"
        )
    _, logits = embed_pictures(backbone, pictures_of(backbone, images))
    assert logits is not None  # its head is over the classes
    return ClassMetrics.from_probabilities(labels, shares_of(logits), class_names=names, tail=tail)


def pictures_of(backbone: Backbone, images: Sequence[Image.Image]) -> Tensor:
    """(N, 3, S, S) uint8: all pictures at the size of the backbone's recipe.

    Raises: ImageError: if the pixels of a picture cannot be decoded.
    """
    size = backbone.input_size
    pictures = torch.empty((len(images), 3, size, size), dtype=torch.uint8)
    for row in range(len(images)):
        pictures[row] = backbone.pixels(images[row])
    return pictures


def embed_pictures(
    backbone: Backbone, pictures: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Features (N, D) and logits (N, K) of (N, 3, S, S) uint8 pictures, as ``Backbone.embed``."""
    features: list[FloatArray] = [np.empty((0, backbone.feature_size), dtype=np.float32)]
    logits: list[FloatArray] = []
    for start in range(0, len(pictures), _BATCH):
        some, said = backbone.embed(backbone.scaled(pictures[start : start + _BATCH]))
        features.append(some)
        if said is not None:
            logits.append(said)
    head = np.concatenate(logits).astype(np.float32) if logits else None
    return np.concatenate(features).astype(np.float32), head


def shares_of(logits: FloatArray) -> NDArray[np.float64]:
    """(N, K) logits to (N, K) softmax in double precision."""
    shares: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
    return shares
