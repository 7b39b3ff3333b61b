"""Series as blocks of text, for the command line."""

from __future__ import annotations

from collections.abc import Sequence

from backend.dashboard.found import thinned

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 40


def sparkline(values: Sequence[float], width: int = _WIDTH) -> str:
    """Values from 0 up as blocks of eight heights, ``width`` of them at most."""
    shown = thinned(list(values), width)
    most = max(shown, default=0)
    if not most:
        return _BLOCKS[0] * len(shown)
    return "".join(_BLOCKS[round(value / most * (len(_BLOCKS) - 1))] for value in shown)
