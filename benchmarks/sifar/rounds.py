"""The task `rounds`: five times label the first 200 of the queue and fit again, natural pool."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.sifar.cells import Cell, Result
from benchmarks.sifar.draws import Draw
from benchmarks.sifar.entries import ENTRIES
from benchmarks.sifar.likelihood import calibration
from models.recipes.fit_miner import fit_miner
from models.recipes.simulate import Simulation, simulate
from models.types import Examples, LabeledExamples

ROUNDS, BATCH = 5, 200


def rounds_cell(cell: Cell, draw: Draw) -> Result:
    """What was found after each round, and at which label."""
    labeled, pool = draw.labeled.examples, draw.pools["natural"]
    everything = _joined(labeled, pool)
    targets = draw.targets[everything.ids]
    entry = ENTRIES[cell.entry]
    began = time.process_time()
    told = simulate(
        everything,
        targets,
        labeled=np.arange(len(labeled)),
        classes=draw.classes,
        rounds=ROUNDS,
        batch=BATCH,
        config=entry.config,
        seed=cell.ranker,
    )
    if told.explanations:
        # Something else ordered the queue: that would be measured under the wrong name.
        return Result(refused="; ".join(told.explanations))
    served = targets[told.served]
    figures = {f"found.round{turn}": float(n) for turn, n in enumerate(told.found, start=1)}
    # The area under found against labels.
    figures["found.mean"] = float(np.mean(told.found))
    figures["found.share"] = told.found[-1] / told.rare
    curves = {}
    for name, k in zip(("rarer", "rare"), draw.tail, strict=True):
        in_pool = int((draw.targets[pool.ids] == k).sum())
        figures[f"recall.{name}"] = told.found_by_class[k] / in_pool
        curves[f"found_at.{name}"] = (np.flatnonzero(served == k) + 1).astype(float).tolist()
    figures["seconds.round"] = (time.process_time() - began) / ROUNDS
    if entry.config.scorer == "rarefirst":
        calibrated = _after(cell, draw, everything, told)
        figures |= calibrated.figures
        curves |= calibrated.curves
    return Result(figures=figures, curves=curves)


def _joined(labeled: Examples, pool: Examples) -> Examples:
    logits = None
    if labeled.logits is not None and pool.logits is not None:
        logits = np.concatenate([labeled.logits, pool.logits])
    return Examples(
        np.concatenate([labeled.ids, pool.ids]),
        np.concatenate([labeled.features, pool.features]),
        logits,
    )


def _after(cell: Cell, draw: Draw, everything: Examples, told: Simulation) -> Result:
    """How likely the miner, fitted on mined labels too, calls what is left of the pool."""
    is_open = np.ones(len(everything), dtype=bool)
    known = np.concatenate([np.arange(len(draw.labeled)), told.served])
    is_open[known] = False
    left = everything.take(np.flatnonzero(is_open))
    targets = draw.targets[everything.ids[known]]
    miner = fit_miner(
        LabeledExamples(everything.take(known), targets),
        left,
        classes=draw.classes,
        config=ENTRIES[cell.entry].config,
        seed=cell.ranker,
        provenance=draw.provenance(mined=len(told.served)),
    )
    rare = np.isin(draw.targets[left.ids], draw.tail)
    return calibration(miner.judge(left).rarity, rare, "after_rounds")
