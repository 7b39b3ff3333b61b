"""Frozen models: what turns pictures into features.

The names are loaded on first use: who only decodes pictures (``models.backbones.images``) needs no
torch, which takes seconds to import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.backbones.backbone import Backbone, load_backbone
    from models.backbones.networks import BACKBONES, BackboneSpec, Recipe, architectures

__all__ = ["BACKBONES", "Backbone", "BackboneSpec", "Recipe", "architectures", "load_backbone"]


def __getattr__(name: str) -> object:
    """One of the names above, from the module that holds it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "backbone" if name in ("Backbone", "load_backbone") else "networks"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
