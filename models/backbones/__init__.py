"""Frozen models: what turns pictures into features."""

from models.backbones.backbone import Backbone, load_backbone
from models.backbones.networks import BACKBONES, BackboneSpec, Recipe

__all__ = ["BACKBONES", "Backbone", "BackboneSpec", "Recipe", "load_backbone"]
