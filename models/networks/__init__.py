"""Small networks for images of 32 pixels, trained from scratch."""

from models.networks.cnn4 import Cnn4
from models.networks.resnet32 import ResNet32

__all__ = ["Cnn4", "ResNet32"]
