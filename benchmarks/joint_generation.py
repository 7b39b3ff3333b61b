"""Joint generation and classification against classical rebalancing, at tiny minorities.

500 pictures of one class of CIFAR-10 and 25, 50 or 100 of a class that looks like it, tested on
400 of each; the metric is the F1 score of the minority. Published figures (METHODS 14.3) are of
other data, of 256 px and 200 epochs of CycleGAN on a GPU. Here pictures have 32 px and all must
be done in about 25 minutes on one core, so the generators are light (``GAN`` below) and see each
picture a few times only: the comparison says whether generation pays at that price.

Each cell is kept under ``--cache``: a killed run goes on where it stopped.

    .venv/bin/python -m benchmarks.joint_generation             # horse against deer
    .venv/bin/python -m benchmarks.joint_generation --develop   # automobile against truck
    .venv/bin/python -m benchmarks.joint_generation --table     # only write what is computed by now

Everything was chosen with ``--develop``; the reported pair was fixed before and looked at once.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sifar.pictures import CLASSES, PER_CLASS, Pictures, read_pictures
from benchmarks.stage import say
from models.config import FinetuneConfig
from models.files import write_text
from models.recipes.finetune import TrainingSet, finetune
from models.recipes.forward import Scaled, predict

ARCHIVE = Path("../shared/data/cifar10-train.zip")
RESULTS = Path("benchmarks/results")
REPORTED, DEVELOP = ("horse", "deer"), ("automobile", "truck")  # majority, minority
MAJORITY, SIZES, TESTED, SEEDS = 500, (25, 50, 100), 400, (1, 2)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)

#: The light generators: 3 blocks, 16 channels, learning the change only.
GAN: dict[str, float | int | str | bool] = {
    "blocks": 3,
    "width": 16,
    "skip": True,
    "alpha": 0.0,
    "beta": 1.0,
    "gan_batch": 4,
    "gan_learning_rate": 1e-3,
    "flip": True,
}
AUG = ("joint_generation_aug", GAN | {"gan_steps": 400, "gamma": 0.0})
ALT = ("joint_generation_alt", GAN | {"gamma": 0.0})
METHODS: dict[str, tuple[str, dict[str, float | int | str | bool]]] = {
    "Vanilla": ("erm", {}),
    "OS": ("resample", {}),
    "CS": ("reweight", {}),
    "US": ("erm", {}),  # of as many majority pictures as there are of the minority
    "SMOTE": ("smote", {}),
    "CBL": ("class_balanced", {}),
    "AUG": AUG,
    "AUG, gamma 1": (AUG[0], AUG[1] | {"gamma": 1.0}),
    "ALT": ALT,
    "ALT, gamma 1": (ALT[0], ALT[1] | {"gamma": 1.0}),
}
TRAINING = FinetuneConfig(
    epochs=1,
    min_steps=360,
    batch=32,
    optimiser="adamw",
    learning_rate=2e-3,
    schedule="cosine",
    augmentation="crop_flip",
    checkpoint_every_s=1e9,
)
#: METHODS 14.3, Horse2Zebra: minority size -> Vanilla, the best classical method, ALT, AUG.
PUBLISHED = {
    25: (0.05, "CBL .8263", 0.804, 0.85),
    50: (0.558, "OS+CS .8522", 0.832, 0.862),
    75: (0.718, "CS .8699", 0.802, 0.878),
    100: (0.768, "OS+CS .8735", 0.822, 0.852),
}


@dataclass(frozen=True)
class Cell:
    """One training and its test."""

    minority: int
    seed: int
    method: str

    @property
    def name(self) -> str:
        """Of its file."""
        word = self.method.lower().replace(", ", "-").replace(" ", "")
        return f"{self.minority:03}-{self.seed}-{word}"


@dataclass(frozen=True)
class Found:
    """What came of a cell: scores of the minority on the test set, and processor time."""

    f1: float
    precision: float
    recall: float
    accuracy: float
    cpu_s: float


class SmallCnn(nn.Module):
    """Three convolutions with batch normalisation, the mean over the picture, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(64, 2)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 32, 32) to (N, 2) logits."""
        logits: Tensor = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


def of_class(pictures: Pictures, name: str, rows: Sequence[int]) -> Tensor:
    """(N, 3, 32, 32) uint8."""
    chosen = CLASSES.index(name) * PER_CLASS + np.asarray(rows)
    return torch.from_numpy(pictures.pixels[chosen]).permute(0, 3, 1, 2).contiguous()


def training_set(pictures: Pictures, pair: tuple[str, str], cell: Cell) -> TrainingSet:
    """The same pictures for every method; a larger minority contains the smaller ones."""
    generator = np.random.default_rng(cell.seed)
    rows = [generator.permutation(PER_CLASS - TESTED) for _ in pair]
    majority = cell.minority if cell.method == "US" else MAJORITY
    parts = [
        of_class(pictures, name, order[:count].tolist())
        for name, order, count in zip(pair, rows, (majority, cell.minority), strict=True)
    ]
    targets = torch.repeat_interleave(torch.arange(2), torch.tensor([len(p) for p in parts]))
    return TrainingSet(torch.cat(parts), targets, pair)


def compute(given: argparse.Namespace, pair: tuple[str, str], cell: Cell) -> Found:
    began = time.process_time()
    pictures = read_pictures(given.archive, given.pixels)
    strategy, options = METHODS[cell.method]
    run_dir = given.cache / "-".join(pair) / "runs" / cell.name
    _borrow(run_dir, cell)
    torch.manual_seed(cell.seed)
    made = finetune(
        SmallCnn(),
        training_set(pictures, pair, cell),
        mean=MEAN,
        std=STD,
        config=TRAINING.model_copy(update={"strategy": strategy, "options": options}),
        run_dir=run_dir,
        seed=cell.seed,
    )
    tested = [of_class(pictures, name, range(PER_CLASS - TESTED, PER_CLASS)) for name in pair]
    network, device = Scaled(made.network, MEAN, STD), torch.device("cpu")
    said = [predict(network, some, device=device).argmax(dim=1) for some in tested]
    false, true = int(said[0].sum()), int(said[1].sum())
    return Found(
        f1=2 * true / max(1, true + false + TESTED),
        precision=true / max(1, true + false),
        recall=true / TESTED,
        accuracy=(TESTED - false + true) / (2 * TESTED),
        cpu_s=round(time.process_time() - began, 1),
    )


def _borrow(run_dir: Path, cell: Cell) -> None:
    """Take what another cell has learned already: the network g, and a CycleGAN without gamma."""
    if not cell.method.startswith(("AUG", "ALT")):
        return
    sources = {"reference": run_dir.parent / Cell(cell.minority, cell.seed, "Vanilla").name}
    if cell.method == "AUG, gamma 1":
        other = Cell(cell.minority, cell.seed, "AUG").name
        sources["joint_generation"] = run_dir.parent / other / "joint_generation"
    for name, source in sources.items():
        if source.exists() and not (run_dir / name).exists():
            shutil.copytree(source, run_dir / name)


def write_results(
    given: argparse.Namespace, pair: tuple[str, str], found: dict[Cell, Found]
) -> None:
    """The JSON, printed and kept, and the page beside it."""
    command = shlex.join([".venv/bin/python", "-m", "benchmarks.joint_generation", *sys.argv[1:]])
    told = {
        "benchmark": "joint_generation",
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "torch": torch.__version__,
        "majority": {"class": pair[0], "pictures": MAJORITY},
        "minority": {"class": pair[1], "pictures": list(given.sizes)},
        "tested": {"pictures of each class": TESTED},
        "size_px": 32,
        "seeds": list(given.seeds),
        "training": TRAINING.model_dump(exclude={"strategy", "options"}),
        "methods": {name: {"strategy": s, "options": o} for name, (s, o) in METHODS.items()},
        "generator": "light: 3 blocks, 16 channels, learns the change only, no identity loss; 400 "
        "steps (aug) or 360 (alt) of 4 pictures of each class, against 200 passes over 1,067 "
        "pictures as published",
        "cells_missing": len(given.sizes) * len(given.seeds) * len(METHODS) - len(found),
        "cpu_minutes": round(sum(result.cpu_s for result in found.values()) / 60, 1),
        "minority_f1": {name: _scores(given, found, name) for name in METHODS},
        "cells": {cell.name: asdict(result) for cell, result in found.items()},
        "published_horse2zebra": {
            size: dict(zip(("Vanilla", "best classical", "ALT", "AUG"), figures, strict=True))
            for size, figures in PUBLISHED.items()
        },
    }
    text = json.dumps(told, indent=1)
    write_text(given.out, text + "\n")
    write_text(given.out.with_suffix(".md"), _page(given, pair, told))
    print(text)


def _scores(
    given: argparse.Namespace, found: dict[Cell, Found], method: str
) -> dict[int, dict[str, float | list[float]]]:
    """By minority size: mean over the seeds, and each of them."""
    scores = {}
    for size in given.sizes:
        cells = [Cell(size, seed, method) for seed in given.seeds]
        values = [found[cell].f1 for cell in cells if cell in found]
        if values:
            scores[size] = {
                "mean": round(statistics.fmean(values), 4),
                "seeds": [round(value, 4) for value in values],
            }
    return scores


def _page(given: argparse.Namespace, pair: tuple[str, str], told: dict[str, object]) -> str:
    scores = told["minority_f1"]
    assert isinstance(scores, dict)
    lines = [
        "# Joint generation and classification",
        "",
        f"Made by `{told['command']}` on {told['date']}, {told['cpu_minutes']} minutes of one "
        f"core ({told['cells_missing']} cells missing). F1 of the minority class, mean over "
        f"{len(given.seeds)} seeds (least to greatest): {MAJORITY} of class {pair[0]} against few "
        f"of {pair[1]}, at 32 px, {TESTED} of each in the test. Light generator. Always saying "
        f"{pair[1]} scores .667.",
        "",
        "| method | " + " | ".join(str(size) for size in given.sizes) + " |",
        "| --- |" + " --- |" * len(given.sizes),
    ]
    for method, by_size in scores.items():
        row = []
        for size in given.sizes:
            one = by_size.get(size)
            row.append(
                f"{one['mean']:.3f} ({min(one['seeds']):.3f} to {max(one['seeds']):.3f})"
                if one
                else "-"
            )
        lines.append(f"| {method} | " + " | ".join(row) + " |")
    lines += [
        "",
        "Published for Horse2Zebra (METHODS 14.3; 1,067 horses, 256 px, GPU; its metric is not "
        "labelled, minority F1 is our reading):",
        "",
        "| minority | Vanilla | best classical | ALT | AUG |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {size} | {vanilla:.3f} | {classical} | {alt:.3f} | {aug:.3f} |"
            for size, (vanilla, classical, alt, aug) in PUBLISHED.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="class/NNNN.jpg in a zip")
    parser.add_argument("--pixels", type=Path, default=Path("var/sifar10"), help="decoded pictures")
    parser.add_argument("--cache", type=Path, default=Path("var/joint_generation"))
    parser.add_argument("--out", type=Path, help="JSON; the page goes beside it")
    parser.add_argument("--develop", action="store_true", help="the pair to try on")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the minority")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--table", action="store_true", help="compute nothing")
    given = parser.parse_args(arguments)
    name = "joint_generation.json"
    given.out = given.out or (given.cache / f"develop-{name}" if given.develop else RESULTS / name)
    return given


def main() -> None:
    given = parse()
    torch.set_num_threads(1)
    pair = DEVELOP if given.develop else REPORTED
    found: dict[Cell, Found] = {}
    for seed in given.seeds:
        for size in given.sizes:
            for method in METHODS:
                cell = Cell(size, seed, method)
                path = given.cache / "-".join(pair) / f"{cell.name}.json"
                if path.exists():
                    found[cell] = Found(**json.loads(path.read_text()))
                elif not given.table and method in given.methods:
                    found[cell] = compute(given, pair, cell)
                    write_text(path, json.dumps(asdict(found[cell])) + "\n")
                    say(f"{cell.name}: F1 {found[cell].f1:.4f}, {found[cell].cpu_s:.0f} s")
    write_results(given, pair, found)


if __name__ == "__main__":
    main()
