"""Small coloured pictures in class folders: which class is plain to any network."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (30, 30, 220), "green": (30, 220, 30), "red": (220, 30, 30)}


def square(label: str, number: int) -> bytes:
    """A PNG of 16 x 16 pixels, a little different each."""
    noise = np.random.default_rng(number).integers(-25, 25, (16, 16, 3))
    pixels = (np.asarray(COLOURS[label]) + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_squares(folder: Path, **counts: int) -> Path:
    """``counts`` pictures of each colour, in folders called so."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number:03d}.png").write_bytes(square(label, number))
    return folder
