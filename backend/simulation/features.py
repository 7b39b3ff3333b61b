"""Features of image files on disk, so that the same images are embedded once.

A folder for each frozen model, in it one file for each chunk of images, written whole: a run that
is killed loses the chunk that it was at. Deleting the folder costs time only.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.embedding import embed
from backend.simulation.images import LabeledImage
from models.backbones import Backbone
from models.types import Progress, no_progress

logger = logging.getLogger(__name__)

# Features and logits of a chunk, and the row of one image in them.
_Place = tuple[NDArray[np.float16], NDArray[np.float32], int]


@dataclass(frozen=True)
class Features:
    """Features of the images that could be read.

    Attributes:
        rows: (N,) which of the images, ascending.
        features: (N, D) float16.
        logits: (N, K) float32 over the frozen model's classes, or None where it names none.
        failures: index of an image -> why it could not be read.
        embedded: how many were not in the cache.
    """

    rows: NDArray[np.int64]
    features: NDArray[np.float16]
    logits: NDArray[np.float32] | None
    failures: dict[int, str] = field(default_factory=dict)
    embedded: int = 0


class FeatureCache:
    """Cached features of one frozen model.

    Args:
        folder: of all caches.
        backbone: whose features.
    """

    def __init__(self, folder: Path, backbone: Backbone) -> None:
        self._folder = folder / backbone.fingerprint[:16]
        self._backbone = backbone
        self._classes = len(backbone.class_names or ())

    def features(
        self,
        images: Sequence[LabeledImage],
        *,
        max_pixels: int,
        batch: int,
        chunk: int,
        threads: int,
        progress: Progress = no_progress,
    ) -> Features:
        """Features of all images, from the cache where they are in it.

        Args:
            images: which.
            max_pixels: larger images are refused.
            batch: images in one forward pass.
            chunk: images between two writes.
            threads: images decoded at the same time.
            progress: told after each batch, of all images.
        """
        known = self._read({image.key for image in images})
        missing = [row for row, image in enumerate(images) if image.key not in known]
        failures: dict[int, str] = {}
        done = len(images) - len(missing)
        progress(done, len(images), "images")
        for start in range(0, len(missing), chunk):
            some = missing[start : start + chunk]
            found = embed(
                self._backbone,
                some,
                lambda row: images[row].load(),
                max_pixels=max_pixels,
                batch=batch,
                threads=threads,
                progress=_after(done + start, len(images), progress),
            )
            failures |= found.failures
            with np.errstate(over="ignore"):
                half = found.features.astype(np.float16)
            good = np.isfinite(half).all(axis=1)
            failures |= dict.fromkeys(
                found.ids[~good].tolist(), "its features are not finite in half precision"
            )
            keys = [images[row].key for row in found.ids[good].tolist()]
            logits = np.empty((len(half), 0), np.float32) if found.logits is None else found.logits
            features, logits = half[good], logits[good]
            self._write(keys, features, logits)
            known |= {key: (features, logits, at) for at, key in enumerate(keys)}
        rows = [row for row, image in enumerate(images) if image.key in known]
        return self._gathered(images, rows, known, failures, len(missing) - len(failures))

    def _gathered(
        self,
        images: Sequence[LabeledImage],
        rows: Sequence[int],
        known: dict[str, _Place],
        failures: dict[int, str],
        embedded: int,
    ) -> Features:
        """One array in the order of the images."""
        features = np.empty((len(rows), self._backbone.feature_size), dtype=np.float16)
        logits = np.empty((len(rows), self._classes), dtype=np.float32)
        for at, row in enumerate(rows):
            vectors, head, place = known[images[row].key]
            features[at], logits[at] = vectors[place], head[place]
        return Features(
            rows=np.asarray(rows, dtype=np.int64),
            features=features,
            logits=logits if self._classes else None,
            failures=failures,
            embedded=embedded,
        )

    def _read(self, wanted: set[str]) -> dict[str, _Place]:
        """Where the features of each key are, of those that are cached."""
        known: dict[str, _Place] = {}
        for path in sorted(self._folder.glob("*.npz")):
            try:
                # Not by its name: numpy leaves a damaged file open.
                with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                    keys, features, logits = stored["keys"], stored["features"], stored["logits"]
                shapes = (len(keys), self._backbone.feature_size), (len(keys), self._classes)
                if (features.shape, logits.shape) != shapes:
                    raise ValueError(
                        f"found {features.shape} and {logits.shape}, expected {shapes}"
                    )
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                logger.warning("%s is damaged, its images are embedded again: %s", path, error)
                path.unlink(missing_ok=True)
                continue
            for at, key in enumerate(keys.tolist()):
                if key in wanted:
                    known[key] = (features, logits, at)
        return known

    def _write(
        self, keys: Sequence[str], features: NDArray[np.float16], logits: NDArray[np.float32]
    ) -> None:
        if not keys:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        number = sum(1 for _ in self._folder.glob("*.npz"))
        path = self._folder / f"{number:06d}-{keys[0][:8]}.npz"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, keys=np.asarray(keys), features=features, logits=logits)
        temporary.replace(path)


def _after(before: int, whole: int, progress: Progress) -> Progress:
    """Progress of a part as progress of the whole."""

    def tell(done: int, total: int, message: str = "") -> None:
        progress(before + done, whole, message)

    return tell
