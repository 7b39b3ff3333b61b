"""Tiny features of all 50,000 pictures, and results as cells leave them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.sifar.cells import Cell, Result, Task
from benchmarks.sifar.cnn import CnnKey
from benchmarks.sifar.pictures import CLASSES, PER_CLASS

TAIL = "cat,truck"


def cell(entry: str = "random", *, task: Task = "rank", tail: str = TAIL, draw: int = 10) -> Cell:
    return Cell(task, "eff", tail, draw, None, entry, ranker=draw)


def write_features(cache: Path) -> None:
    """Six features, by which classes can be told apart somewhat."""
    draws = np.random.default_rng(0)
    centers = np.repeat(draws.normal(size=(len(CLASSES), 6)), PER_CLASS, axis=0)
    features = centers + draws.normal(scale=0.5, size=centers.shape)
    (cache / "eff").mkdir(parents=True)
    np.save(cache / "eff/features.npy", features.astype(np.float16))


def write_network(cache: Path, key: CnnKey) -> None:
    """What a training of the CNN leaves: features, logits and its last layer."""
    draws = np.random.default_rng(1)
    features = draws.normal(size=(len(CLASSES) * PER_CLASS, 3)).astype(np.float16)
    weight = draws.normal(size=(len(key.outputs), 3)).astype(np.float32)
    bias = np.zeros(len(weight), dtype=np.float32)
    folder = cache / key.name
    folder.mkdir()
    np.save(folder / "features.npy", features)
    np.save(folder / "logits.npy", features.astype(np.float32) @ weight.T)
    layer = {"classifier.weight": weight, "classifier.bias": bias}
    save_file(layer, folder / "checkpoint.safetensors")


def ranked(ap: float, **more: float) -> Result:
    """A result of the task `rank`."""
    return Result({"uniform.ap": ap, "natural.ap": ap / 2, **more}, cpu_s=1.0)
