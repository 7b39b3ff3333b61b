"""A detector over other classes: what the last convolution knows of those that stay is kept."""

from __future__ import annotations

import torch

from models.backbones.detector import Detector, load_detector
from models.networks.retinanet import Retina, reset


def with_classes(detector: Detector, class_names: tuple[str, ...]) -> Detector:
    """The same network with a last convolution over ``class_names``; what was given stays.

    A class that the detector knows keeps its weights, a new one starts as RetinaNet's do.

    Args:
        detector: over whatever classes.
        class_names: K names.
    """
    # Weights of the copy are its own: they are neither published nor in the file they began in.
    spec = detector.spec.model_copy(update={"class_names": class_names, "weights": "none"})
    made = load_detector(spec, device=str(detector.device))
    network = made.network
    _take(network, detector.network, detector.class_names, class_names)
    return Detector(network, spec=spec, recipe=detector.recipe, device=str(detector.device))


@torch.no_grad()
def _take(network: Retina, known: Retina, before: tuple[str, ...], after: tuple[str, ...]) -> None:
    last = "head.classification_head.cls_logits."
    state = {name: value for name, value in known.state_dict().items() if not name.startswith(last)}
    network.load_state_dict(state, strict=False)
    new, old = network.last_convolution, known.last_convolution
    reset(new)
    kept = [name for name in after if name in before]
    to, of = [after.index(name) for name in kept], [before.index(name) for name in kept]
    apart = (known.anchors_per_place, -1)  # (A * K, ...) is anchor after anchor
    for mine, its in ((new.weight, old.weight), (new.bias, old.bias)):
        assert mine is not None  # torchvision's has a bias
        assert its is not None
        mine.view(*apart, *mine.shape[1:])[:, to] = its.view(*apart, *its.shape[1:])[:, of]
