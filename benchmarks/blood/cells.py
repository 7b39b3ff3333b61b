"""One cell: a split, a detector trained on its skewed part, every scorer on its pool, fine-tunes.

Pictures are split, not tiles: a quarter is the test, 60 pictures give the training tiles, all but
five of those with a tail object held back; the pool is the rest, what was held back included.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.blood.tiles import NAMES, Tiles, spec
from benchmarks.sifar.work import current_commit
from benchmarks.stage import say
from models.backbones.detector import Detector, load_detector
from models.config import DetectorTraining, MinerConfig
from models.detection.coco import BoxMetrics, box_metrics
from models.files import write_text
from models.metrics import mining_metrics, precision_at, published_budgets
from models.recipes.find_boxes import find_boxes
from models.recipes.fit_detection_miner import LabeledImages, fit_detection_miner
from models.recipes.train_detector import fit_detector
from models.types import ClassSpace, Examples, IntArray

TAILS: dict[str, tuple[int, ...]] = {"white": (1,), "platelets": (2,), "both": (1, 2)}
SCORERS = (
    "rarefirst",
    "tail_mass",
    "tail_mass_rc",
    "paper",
    "paper_max",
    "paper_no_rc",
    "entropy",
    "max_score",
    "diversity",
    "random",
)
MINED = ("rarefirst", "random")
BUDGETS = (50, 100)
TEST_PICTURES, TRAIN_PICTURES, KEPT = 73, 60, 5
TRAINING = DetectorTraining(steps=600, checkpoint_every=200)
FINETUNE = DetectorTraining(steps=300, learning_rate=5e-4, warm_up=20, checkpoint_every=300)
_BATCH = 32
_FIRST = (10, 25, 50)


@dataclass(frozen=True)
class Split:
    """Rows of the tiles, ascending.

    Attributes:
        train: labeled, skewed. pool: to be labeled. test: for AP.
        tail: classes.
    """

    train: IntArray
    pool: IntArray
    test: IntArray
    tail: tuple[int, ...]


def split(tiles: Tiles, tail: Sequence[int], seed: int) -> Split:
    """By picture; see above."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(int(tiles.picture.max()) + 1)
    is_test = np.isin(tiles.picture, order[:TEST_PICTURES])
    is_train = np.isin(tiles.picture, order[TEST_PICTURES : TEST_PICTURES + TRAIN_PICTURES])
    rare = tiles.holds[:, list(tail)].any(axis=1)
    chosen = np.flatnonzero(is_train & ~rare).tolist()
    for k in tail:
        chosen += rng.permutation(np.flatnonzero(is_train & tiles.holds[:, k]))[:KEPT].tolist()
    train = np.unique(np.asarray(chosen, dtype=np.int64))
    pool = np.setdiff1d(np.flatnonzero(~is_test), train)
    return Split(train, pool, np.flatnonzero(is_test), tuple(tail))


def cell_path(cache: Path, tail: str, seed: int, step: str) -> Path:
    """Where a result lies: ``mine`` or ``tune-SCORER-BUDGET``."""
    return cache / "cells" / f"{tail}-{seed}" / f"{step}.json"


def mine(tiles: Tiles, tail: str, seed: int, cache: Path) -> None:
    """Train the detector and let every scorer order the pool."""
    began = time.process_time()
    parts = split(tiles, TAILS[tail], seed)
    folder = cell_path(cache, tail, seed, "mine").parent
    detector = _trained(tiles, parts, seed, folder)
    examples = _embedded(detector, tiles, np.concatenate([parts.train, parts.pool]))
    labeled = LabeledImages(
        examples.take(np.arange(len(parts.train))), tuple(tiles.boxes[row] for row in parts.train)
    )
    pool = examples.take(np.arange(len(parts.train), len(examples)))
    rare = tiles.holds[:, list(parts.tail)].any(axis=1)
    shown = tiles.shows[:, list(parts.tail)].any(axis=1)
    classes = ClassSpace(NAMES, parts.tail)
    figures, orders, fits = {}, {}, {}
    for scorer in SCORERS:
        at = time.process_time()
        miner = fit_detection_miner(
            labeled,
            pool,
            classes=classes,
            head=detector.class_names,
            config=MinerConfig(scorer=scorer),
            seed=seed,
        )
        if miner.kind != scorer:
            raise RuntimeError(f"{scorer} could not be fitted: {miner.explanation}")
        order = miner.queue(pool, budget=len(pool), seed=seed).ids
        fits[scorer] = round(time.process_time() - at, 2)
        figures[scorer] = _figures(order, rare, shown, tiles.holds, parts)
        orders[scorer] = [int(i) for i in order[: max(BUDGETS)]]
    ideal = parts.pool[np.argsort(~rare[parts.pool], kind="stable")]
    result = {
        "tail": tail,
        "seed": seed,
        "commit": current_commit(),
        "train": len(parts.train),
        "train_boxes": _counts(tiles, parts.train),
        "pool": len(parts.pool),
        "pool_tail": int(rare[parts.pool].sum()),
        "pool_fragments": int((shown & ~rare)[parts.pool].sum()),
        "perfect": _figures(ideal, rare, shown, tiles.holds, parts),
        "scorers": figures,
        "orders": orders,
        "fit_and_order_s": fits,
        "before": _metrics(detector, tiles, parts),
        "cpu_s": round(time.process_time() - began, 1),
    }
    write_text(cell_path(cache, tail, seed, "mine"), json.dumps(result))
    say(f"{tail}, seed {seed}: mined")


def tune(tiles: Tiles, tail: str, seed: int, scorer: str, budget: int, cache: Path) -> None:
    """Fine-tune the detector on the training tiles and the first of a scorer's order."""
    began = time.process_time()
    parts = split(tiles, TAILS[tail], seed)
    mined = json.loads(cell_path(cache, tail, seed, "mine").read_text())
    rows = np.concatenate([parts.train, np.asarray(mined["orders"][scorer][:budget])])
    target = cell_path(cache, tail, seed, f"tune-{scorer}-{budget}")
    detector = Detector.load(target.parent / "detector")
    fit_detector(
        detector,
        tiles.part(rows),
        config=FINETUNE,
        run_dir=target.with_suffix(""),
        seed=seed,
    )
    result = {
        "scorer": scorer,
        "budget": budget,
        "new_boxes": _counts(tiles, rows[len(parts.train) :]),
        "after": _metrics(detector, tiles, parts),
        "cpu_s": round(time.process_time() - began, 1),
    }
    write_text(target, json.dumps(result))
    say(f"{tail}, seed {seed}: fine-tuned after {budget} by {scorer}")


def _trained(tiles: Tiles, parts: Split, seed: int, folder: Path) -> Detector:
    if not (folder / "detector").exists():
        detector = load_detector(spec(seed))
        fit_detector(
            detector,
            tiles.part(parts.train),
            config=TRAINING,
            run_dir=folder / "training",
            seed=seed,
        )
        Detector(detector.network, spec=detector.spec, recipe=detector.recipe).save(
            folder / "detector"
        )
    return Detector.load(folder / "detector")


def _embedded(detector: Detector, tiles: Tiles, rows: IntArray) -> Examples:
    features, said = [], []
    for start in range(0, len(rows), _BATCH):
        some = torch.from_numpy(rows[start : start + _BATCH])
        found = detector.embed(
            detector.scaled(tiles.pixels[some]),
            stages=[level[0, some].float() for level in tiles.maps],
        )
        features.append(found[0].astype(np.float16))
        said.append(found[1])
    return Examples(rows, np.concatenate(features), np.concatenate(said))


def _figures(
    order: NDArray[np.int64],
    rare: NDArray[np.bool_],
    shown: NDArray[np.bool_],
    holds: NDArray[np.bool_],
    parts: Split,
) -> dict[str, Any]:
    hits = rare[order]
    total = int(rare[parts.pool].sum())
    budgets = [n for n in published_budgets(len(parts.pool)) if n <= len(order)]
    found = mining_metrics(hits, total, budgets=budgets)
    clear = hits[~(shown & ~rare)[order]]
    return {
        "ap": found.average_precision,
        "average_f": found.average_f,
        **{f"p@{n}": precision_at(hits, n) for n in _FIRST},
        "clear_ap": mining_metrics(clear, total, budgets=budgets).average_precision,
        **{f"clear_p@{n}": precision_at(clear, n) for n in _FIRST},
        "found_50": {NAMES[k]: int(holds[order[:50], k].sum()) for k in parts.tail},
    }


def _metrics(detector: Detector, tiles: Tiles, parts: Split) -> dict[str, Any]:
    """AP and AR on the test pictures' tiles."""
    test = tiles.part(parts.test)
    found = find_boxes(
        detector.network,
        test.pictures,
        detector.scaled,
        device=detector.device,
        stages=test.stages(),
    )
    metrics: BoxMetrics = box_metrics(
        found,
        test.boxes,
        class_names=NAMES,
        tail=parts.tail,
        resamples=0,
    )
    return {
        "tail_ap": metrics.tail_ap,
        "tail_ar": metrics.tail_ar,
        "mean_ap": metrics.mean_ap,
        "classes": {
            one.name: {"ap": one.ap, "ap_50": one.ap_50, "ar": one.ar, "boxes": one.boxes}
            for one in metrics.classes
        },
    }


def _counts(tiles: Tiles, rows: IntArray) -> dict[str, int]:
    labels = [box.label for row in rows for box in tiles.boxes[row]]
    return {name: labels.count(name) for name in NAMES}
