"""The frozen models that cells need: trained, or read from the cache."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sifar.cells import Cell
from benchmarks.sifar.cnn import CnnKey, CnnReport, frozen_cnn
from benchmarks.sifar.draws import cnn_key
from benchmarks.sifar.eff import frozen_eff
from benchmarks.sifar.pictures import read_pictures
from benchmarks.sifar.processes import single_thread_variables, start_worker


def prepare(cells: Sequence[Cell], archive: Path, cache: Path, workers: int) -> None:
    """Have the features of every frozen model in the cache.

    Args:
        cells: what is to be computed.
        archive: the pictures; not looked at where nothing is missing.
        cache: where features are kept.
        workers: trainings at a time.
    """
    missing: list[CnnKey | None] = [
        key for key in networks(cells) if not (cache / key.name / "report.json").exists()
    ]
    if any(cell.frozen == "eff" for cell in cells) and not (cache / "eff/features.npy").exists():
        missing.insert(0, None)
    if not missing:
        return
    read_pictures(archive, cache)
    single_thread_variables()
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(missing)), initializer=start_worker) as pool:
        pool.starmap(_prepare_one, [(key, archive, cache) for key in missing], chunksize=1)


def networks(cells: Sequence[Cell]) -> list[CnnKey]:
    """The trainings that cells need, each once."""
    return list(dict.fromkeys(cnn_key(cell) for cell in cells if cell.frozen == "cnn"))


def reports(cells: Sequence[Cell], cache: Path) -> dict[str, CnnReport]:
    """How well each of them does, by name; those that are not trained are left out."""
    paths = {key.name: cache / key.name / "report.json" for key in networks(cells)}
    return {
        name: CnnReport(**json.loads(path.read_text()))
        for name, path in paths.items()
        if path.exists()
    }


def _prepare_one(key: CnnKey | None, archive: Path, cache: Path) -> None:
    pictures = read_pictures(archive, cache)
    if key is None:
        frozen_eff(pictures, cache)
    else:
        frozen_cnn(pictures, key, cache)
