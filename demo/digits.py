"""scikit-learn's handwritten digits as a labeling project: skewed labels, two digits made rare."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

SIDE_PX = 128
CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(frozen=True)
class DigitImage:
    """One picture to label.

    Attributes:
        name: file name; says nothing of the digit.
        png: the encoded image, ``SIDE_PX`` square, greyscale.
        digit: the truth, known to the labeling client alone.
    """

    name: str
    png: bytes
    digit: str


@dataclass(frozen=True)
class DigitSet:
    """A project's worth of digits.

    Attributes:
        seeds: labeled from the start.
        pool: to be labeled.
        rare: the two rare digits.
    """

    seeds: tuple[DigitImage, ...]
    pool: tuple[DigitImage, ...]
    rare: tuple[str, ...]

    @property
    def rare_in_pool(self) -> int:
        """How many tasks of the pool show a rare digit."""
        return sum(image.digit in self.rare for image in self.pool)

    @property
    def truth(self) -> dict[str, str]:
        """File name to digit, of all images."""
        return {image.name: image.digit for image in self.seeds + self.pool}


def choose_digits(
    seed: int,
    *,
    seed_labels: int = 160,
    rare_seed_labels: int = 4,
    rare_in_pool: int = 30,
    pool_size: int | None = None,
) -> DigitSet:
    """Pick two rare digits and share the 1,797 images between labels and pool.

    Args:
        seed: chooses the digits, the images, the order and the file names.
        seed_labels: labels there are from the start, rare ones included.
        rare_seed_labels: of these, for each rare digit.
        rare_in_pool: rare tasks in the pool, both digits together.
        pool_size: tasks in the pool, rare ones included; None takes all that are left (about
            1,300).

    Raises:
        ValueError: more images are asked for than there are.
    """
    rng = np.random.default_rng(seed)
    data = load_digits()
    targets: NDArray[np.int64] = np.asarray(data.target, dtype=np.int64)
    rare = np.sort(rng.choice(10, size=2, replace=False))
    common = [digit for digit in range(10) if digit not in rare]
    rows = {digit: rng.permutation(np.flatnonzero(targets == digit)) for digit in range(10)}

    seeds: list[int] = []
    pool: list[int] = []
    wanted = _skewed_counts(seed_labels - len(rare) * rare_seed_labels, len(common))
    for digit, count in zip(rng.permutation(common), wanted, strict=True):
        seeds.extend(rows[digit][:count])
        pool.extend(rows[digit][count:])
    if pool_size is not None:
        if pool_size - rare_in_pool > len(pool):
            raise ValueError(f"pool_size {pool_size}: there are {len(pool)} common digits left")
        pool = list(rng.permutation(pool)[: pool_size - rare_in_pool])
    for position, digit in enumerate(rare):
        share = rare_in_pool // 2 + (rare_in_pool % 2 if position == 0 else 0)
        seeds.extend(rows[digit][:rare_seed_labels])
        pool.extend(rows[digit][rare_seed_labels : rare_seed_labels + share])

    images = np.asarray(data.images, dtype=np.float64)

    def pictures(chosen: Sequence[int]) -> tuple[DigitImage, ...]:
        return tuple(
            DigitImage(f"scan-{rng.bytes(6).hex()}.png", _png(images[row]), str(targets[row]))
            for row in rng.permutation(np.asarray(chosen))
        )

    return DigitSet(pictures(seeds), pictures(pool), tuple(str(digit) for digit in rare))


def _skewed_counts(total: int, classes: int) -> list[int]:
    """``total`` split over ``classes``, the first getting about twice what the last gets."""
    weights = np.linspace(2.0, 1.0, classes)
    edges = np.rint(np.cumsum(weights) / weights.sum() * total).astype(int)
    return [int(count) for count in np.diff(edges, prepend=0)]


def _png(image: NDArray[np.float64]) -> bytes:
    """An 8x8 image with values 0 to 16, dark on white and large enough for a person to read."""
    grey = np.clip(255 - image * (255 / 16), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
