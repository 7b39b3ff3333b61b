"""Task types: what differs between control tags. A new one is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.tasks.classification import Classification

TASKS: Mapping[str, type[Classification]] = MappingProxyType({Classification.tag: Classification})

__all__ = ["TASKS", "Classification"]
