"""The pictures of `cifar10-train.zip`, decoded once: 5,000 of each class, 32x32."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.stage import say

CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
PER_CLASS = 5000


@dataclass(frozen=True)
class Pictures:
    """All pictures, class after class, each class in the order of its file names.

    Attributes:
        pixels: (50,000, 32, 32, 3) uint8.
        targets: (50,000,) index into ``CLASSES``.
    """

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]


def read_pictures(archive: Path, cache: Path) -> Pictures:
    """Decode the archive, or read what an earlier run decoded.

    Args:
        archive: JPEG files ``class/NNNN.jpg`` in a zip.
        cache: folder for ``pixels.npy``.

    Raises:
        FileNotFoundError: if there is no such archive.
        ValueError: if it does not hold 5,000 pictures of each class.
    """
    targets = np.repeat(np.arange(len(CLASSES), dtype=np.int64), PER_CLASS)
    path = cache / "pixels.npy"
    if path.exists():
        return Pictures(np.load(path, mmap_mode="r"), targets)
    if not archive.exists():
        raise FileNotFoundError(
            f"{archive} is not there; give the CIFAR-10 training pictures (class/NNNN.jpg in a "
            "zip) with --archive"
        )
    say(f"decoding {archive}")
    pixels = np.empty((len(targets), 32, 32, 3), dtype=np.uint8)
    with zipfile.ZipFile(archive) as files:
        names = [name for name in files.namelist() if name.endswith(".jpg")]
        for k, title in enumerate(CLASSES):
            own = sorted(name for name in names if name.split("/")[-2] == title)
            if len(own) != PER_CLASS:
                raise ValueError(f"found {len(own)} pictures of {title}; expected {PER_CLASS}")
            for row, name in enumerate(own, start=k * PER_CLASS):
                pixels[row] = np.asarray(Image.open(io.BytesIO(files.read(name))).convert("RGB"))
    save_array(path, pixels)
    return Pictures(pixels, targets)


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write an array so that a kill leaves either nothing or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, array)
    temporary.replace(path)
