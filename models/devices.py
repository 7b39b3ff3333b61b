"""What differs between a processor and a CUDA device."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def own_random_state(device: torch.device) -> AbstractContextManager[None]:
    """Seed as you like inside: the caller's random state, also of the device, is left as it was."""
    devices = [device.index or 0] if device.type == "cuda" else []
    return torch.random.fork_rng(devices=devices)
