"""What a scorer is given in one draw: labels, both pools, and nothing that it must not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from benchmarks.sifar.cells import Cell
from benchmarks.sifar.cnn import CnnKey
from benchmarks.sifar.pictures import CLASSES, PER_CLASS
from benchmarks.sifar.split import PoolKind, make_split, tail_of
from models.holdouts import Provenance
from models.label_head import LabelHead
from models.types import ClassSpace, Examples, IntArray, LabeledExamples

POOLS: tuple[PoolKind, ...] = ("uniform", "natural")
#: Trainings of a CNN for each choice of tail classes: draw s uses training s % CNN_TRAININGS.
#: Of those that never saw the tail classes there is one.
CNN_TRAININGS = 2


@dataclass(frozen=True)
class Frozen:
    """What a frozen model says of all 50,000 pictures.

    Attributes:
        features: (50,000, D).
        logits: (50,000, 10) of its own head; None where that does not tell all classes apart.
        head: its head, where it knows some of the classes only.
    """

    features: NDArray[np.float16]
    logits: NDArray[np.float32] | None = None
    head: LabelHead | None = None


@dataclass(frozen=True)
class Draw:
    """Everything about one draw.

    Attributes:
        labeled: the labels at the start.
        pools: the uniform and the natural pool.
        targets: (50,000,) class by id: the annotator.
        classes: names, tail, and the smoothed shares of the labels at the start as priors.
        tail: the tail classes, the rarer first.
        trained_on: how many of the labels the frozen model was trained on.
    """

    labeled: LabeledExamples
    pools: Mapping[PoolKind, Examples]
    targets: IntArray
    classes: ClassSpace
    tail: tuple[int, int]
    trained_on: int

    def provenance(self, mined: int = 0) -> Provenance:
        """How labels came to be: those at the start were drawn, then so many were mined."""
        drawn = np.arange(len(self.labeled) + mined) < len(self.labeled)
        return Provenance(drawn, self.trained_on)


def cnn_key(cell: Cell) -> CnnKey:
    """The network of a cell; without tail labels it is one that never saw the tail classes."""
    blind = cell.labels == 0
    return CnnKey(tail_of(cell.tail), 0 if blind else cell.draw % CNN_TRAININGS, blind=blind)


def draw_of(cell: Cell, cache: Path) -> Draw:
    """The draw of a cell; the last one is kept, so cells of the same draw should follow each other.

    Raises: FileNotFoundError: if the frozen model's features are not in the cache.
    """
    network = cnn_key(cell) if cell.frozen == "cnn" else None
    folder = cache / (network.name if network else "eff")
    return _make(folder, network, cell.tail, cell.draw, cell.labels)


@lru_cache(maxsize=2)
def _frozen(folder: Path, network: CnnKey | None) -> Frozen:
    features = np.load(folder / "features.npy")
    if network is not None and network.blind:
        state = load_file(folder / "checkpoint.safetensors")
        head = LabelHead(
            weight=np.ascontiguousarray(state["classifier.weight"].T),
            bias=state["classifier.bias"],
            label=np.asarray(network.outputs, dtype=np.int64),
            num_labels=len(CLASSES),
        )
        return Frozen(features, head=head)
    return Frozen(features, None if network is None else np.load(folder / "logits.npy"))


def shuffled_ids(seed: int) -> tuple[IntArray, np.random.Generator]:
    """(50,000,) id of each picture in a draw, and the generator that goes on shuffling.

    Scorers break ties by id, and rows stand class by class: neither may tell the class.
    """
    shuffle = np.random.default_rng([seed, 3])
    return shuffle.permutation(len(CLASSES) * PER_CLASS), shuffle


@lru_cache(maxsize=1)
def _make(folder: Path, network: CnnKey | None, names: str, seed: int, labels: int | None) -> Draw:
    frozen, tail = _frozen(folder, network), tail_of(names)
    ids, shuffle = shuffled_ids(seed)
    of_row = np.repeat(np.arange(len(CLASSES)), PER_CLASS)
    targets = np.empty_like(of_row)
    targets[ids] = of_row
    everything = Examples(ids, frozen.features, frozen.logits)

    def examples(rows: IntArray) -> Examples:
        return everything.take(shuffle.permutation(rows)).dense()

    splits = {kind: make_split(tail, seed=seed, pool=kind, tail_labels=labels) for kind in POOLS}
    labeled = examples(splits["uniform"].labeled)
    known = targets[labeled.ids]
    counts = np.bincount(known, minlength=len(CLASSES)) + 1.0
    trained_on = 0
    if network is not None:
        own = ids[make_split(tail, seed=network.seed).labeled]
        trained_on = int(np.isin(labeled.ids, own[np.isin(targets[own], network.outputs)]).sum())
    return Draw(
        labeled=LabeledExamples(labeled, known, head=frozen.head),
        pools={kind: examples(split.pool) for kind, split in splits.items()},
        targets=targets,
        classes=ClassSpace(CLASSES, tuple(sorted(tail)), tuple((counts / counts.sum()).tolist())),
        tail=tail,
        trained_on=trained_on,
    )
