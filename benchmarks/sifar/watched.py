"""Whether a fit looked at the pool: one that did not serves every pool."""

from __future__ import annotations

from models.types import Examples

_HELD = {"ids", "features", "logits", "at"}


class Watched(Examples):
    """The same examples; ``looked`` tells whether anything of them was read."""

    looked: bool

    def __init__(self, examples: Examples) -> None:
        super().__init__(examples.ids, examples.features, examples.logits, examples.at)
        object.__setattr__(self, "looked", False)

    def __getattribute__(self, name: str) -> object:
        """Read an attribute, and note it where it is one of the examples'."""
        if name in _HELD:
            object.__setattr__(self, "looked", True)
        return super().__getattribute__(name)
