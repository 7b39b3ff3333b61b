"""Refuse an option that cannot be, in one sentence."""

from __future__ import annotations

from models.errors import ConfigError


def require(fits: bool, name: str, value: object, expected: str) -> None:
    """Raise ConfigError unless the value of the option ``name`` fits."""
    if not fits:
        raise ConfigError(f"found {name} {value!r}; expected {expected}")
