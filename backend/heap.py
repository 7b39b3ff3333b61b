"""Keeps what is resident close to what is in use, where the C library is glibc.

Each thread that allocates may get a heap of its own there, up to eight for each core, and what one
frees the others do not get. Rounds run in many threads, so the worker would grow for hours until
every heap has seen the largest round. With two heaps, and free pages given back after a round that
did something, it stays where it is. MALLOC_ARENA_MAX, where it is set, counts more.
"""

from __future__ import annotations

import ctypes
import os

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_HEAPS = 2


def share_heaps() -> None:
    """Let all threads share two heaps; called before there are threads."""
    mallopt = getattr(_libc(), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_ARENA_MAX, _HEAPS)


def give_back() -> None:
    """Return free pages to the operating system: a few milliseconds."""
    trim = getattr(_libc(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
