"""A head over a project's classes for a network that has another one.

It begins where a logistic regression on the frozen features ends: a random head would first spoil
the features that a pretrained network brings.
Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", arXiv:2202.10054: linear probing, then fine-tuning.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from models.backbones import Backbone
from models.backbones.networks import set_head
from models.config import RecalibrationConfig
from models.errors import ConfigError
from models.networks.cosine_head import CosineLinear, last_linear
from models.recalibration import RecalibrationLayer
from models.recipes.evaluate import embed_pictures
from models.types import FloatArray, IntArray

# Cross-entropy with classes weighed alike, hardly shrunk.
_PROBE = RecalibrationConfig(form="regularised", gamma=0.0, balanced=True, l2=0.01)


def with_new_head(
    backbone: Backbone,
    pictures: Tensor,
    targets: IntArray,
    *,
    class_names: tuple[str, ...],
    features: FloatArray | None = None,
) -> Backbone:
    """The same network with another head; the one that was given stays as it is.

    Args:
        backbone: whatever its head is over.
        pictures: (N, 3, S, S) uint8, what the head is fitted on.
        targets: (N,) in [0, K).
        class_names: K names.
        features: (N, D) what ``backbone`` makes of the pictures, where it is known.

    Raises:
        ConfigError: if the last Linear of the network is not its head.
        NotEnoughLabels: if fewer than two classes have labels.
    """
    network = copy.deepcopy(backbone.network)
    network = set_head(network, "linear", len(class_names))
    # The head's own input, wherever the features for the queue are taken.
    changed = _frozen(network, backbone, class_names, {"feature_layer": None, "head": "linear"})
    if changed.linear_head() is None:
        raise ConfigError(
            f"the last Linear of {backbone.spec.architecture} is not its head, so it cannot be "
            "replaced by one over the project's classes; take another architecture"
        )
    if features is None or backbone.spec.feature_layer is not None:
        features, _ = embed_pictures(changed, pictures)
    layer = RecalibrationLayer.fit(features, targets, num_classes=len(class_names), config=_PROBE)
    head = last_linear(network)[1]
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(layer.weight.T))
        head.bias.copy_(torch.from_numpy(layer.bias))
    return _frozen(network, backbone, class_names, {"head": "linear"})


def trained(network: nn.Module, start: Backbone, *, device: str) -> Backbone:
    """A network that was trained from ``start``'s, frozen; a strategy may have changed its head."""
    changes: dict[str, str | float | None] = {}
    heads = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if heads and isinstance(heads[-1], CosineLinear):
        changes = {"head": "cosine", "head_scale": heads[-1].scale}
    return _frozen(network, start, start.class_names or (), changes, device=device)


def _frozen(
    network: nn.Module,
    like: Backbone,
    class_names: tuple[str, ...],
    changes: dict[str, str | float | None],
    *,
    device: str | None = None,
) -> Backbone:
    # Its weights are its own: they are neither published nor in the file that they began in.
    about = {"weights": "none", "num_classes": len(class_names), "class_names": class_names}
    return Backbone(
        network,
        spec=like.spec.model_copy(update=about | changes),
        recipe=like.recipe,
        class_names=class_names,
        device=device or str(like.device),
    )
