"""Frozen models: what turns pictures into features."""

from models.backbones.backbone import Backbone, load_backbone
from models.backbones.networks import BACKBONES, BackboneSpec, Recipe, architectures

__all__ = ["BACKBONES", "Backbone", "BackboneSpec", "Recipe", "architectures", "load_backbone"]
