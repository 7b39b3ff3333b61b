"""The task `likelihood`: whether `rarity` reads as a probability, on both pools."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.sifar.cells import Cell, Result
from benchmarks.sifar.draws import Draw
from benchmarks.sifar.entries import ENTRIES
from benchmarks.sifar.pictures import CLASSES
from models.metrics import BoolArray, expected_calibration_error, reliability_bins
from models.recipes.fit_miner import fit_miner
from models.types import FloatArray

BINS = 15
#: Where most of a pool is surely common, its error says little: the likeliest are looked at too.
LIKELIEST = 1000


def likelihood_cell(cell: Cell, draw: Draw) -> Result:
    """Calibration on both pools, with the pool's own shares of the classes as priors."""
    figures: dict[str, float] = {}
    curves: dict[str, list[float]] = {}
    for kind, pool in draw.pools.items():
        truth = draw.targets[pool.ids]
        shares = np.bincount(truth, minlength=len(CLASSES)) / len(truth)
        told = {f"{kind}.true_priors": replace(draw.classes, class_priors=tuple(shares.tolist()))}
        if kind == "uniform":
            # The natural pool's shares are those of the labels.
            told[f"{kind}.label_priors"] = draw.classes
        for name, classes in told.items():
            miner = fit_miner(
                draw.labeled,
                pool,
                classes=classes,
                config=ENTRIES[cell.entry].config,
                seed=cell.ranker,
                provenance=draw.provenance(),
            )
            found = calibration(miner.judge(pool).rarity, np.isin(truth, draw.tail), name)
            figures |= found.figures
            curves |= found.curves
    return Result(figures=figures, curves=curves)


def calibration(rarity: FloatArray, rare: BoolArray, name: str) -> Result:
    """Expected calibration error of all and of the likeliest, and the reliability diagram.

    Args:
        rarity: (N,) likelihoods.
        rare: (N,) what was true.
        name: begins the names of the figures.
    """
    likeliest = np.argsort(-rarity, kind="stable")[:LIKELIEST]
    bins = reliability_bins(rarity, rare, bins=BINS)
    return Result(
        figures={
            f"{name}.ece": expected_calibration_error(rarity, rare, bins=BINS),
            f"{name}.ece@{LIKELIEST}": expected_calibration_error(
                rarity[likeliest], rare[likeliest], bins=BINS
            ),
            f"{name}.mean_likelihood": float(rarity.astype(np.float64).mean()),
            f"{name}.share": float(rare.mean()),
        },
        curves={
            f"{name}.bin": [b.low for b in bins],
            f"{name}.count": [float(b.count) for b in bins],
            f"{name}.likelihood": [b.likelihood for b in bins],
            f"{name}.observed": [b.share for b in bins],
        },
    )
