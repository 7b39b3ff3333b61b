"""The loop closed on SIFAR-10: mine, label, fine-tune, and see what the rare classes gained.

From the start models of `benchmarks.sifar10`: 212 or 2,000 pictures are mined by each scorer from
the uniform pool (a fifth is rare) or the natural one (74 of 17,023), labeled, joined with the
labels at the start, and the model is fine-tuned for 20 more epochs by each strategy. EFF: its head
on 1,280 pooled features. CNN: its last block (two layers) on what its convolutions say, computed
once. Figures: recall of each tail class on the balanced test.

    .venv/bin/python -m benchmarks.sifar_loop              # what is reported
    .venv/bin/python -m benchmarks.sifar_loop --table      # compute nothing
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import itertools
import json
import multiprocessing
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.sifar.cells import Cell, FrozenName
from benchmarks.sifar.cnn import CnnKey
from benchmarks.sifar.draws import CNN_TRAININGS, Draw, draw_of, shuffled_ids
from benchmarks.sifar.entries import ENTRIES
from benchmarks.sifar.pictures import CLASSES, read_pictures, save_array
from benchmarks.sifar.prepare import prepare
from benchmarks.sifar.processes import single_thread_variables, start_worker
from benchmarks.sifar.split import PoolKind, make_split, tail_of
from benchmarks.sifar.work import current_commit
from benchmarks.stage import say
from models.class_metrics import ClassMetrics
from models.config import FinetuneConfig
from models.files import write_text
from models.networks import Cnn4
from models.recipes.finetune import finetune
from models.recipes.forward import predict
from models.recipes.training_set import TrainingSet
from models.scorers import SCORERS

ARCHIVE = Path("../shared/data/cifar10-train.zip")
RESULTS = Path("benchmarks/results/sifar_loop.json")
MINED = (212, 2000)
OURS, RIVALS = "rarefirst", ("random", "entropy", "max_score")
STRATEGIES = ("erm", "focal", "difficulty", "m2m")
VERSION = 1
#: Where the convolutions of Cnn4 end and its last block begins.
_BLOCK_AT = 16


@dataclass(frozen=True)
class LoopCell:
    """One way round the loop; nothing mined where ``scorer`` is empty."""

    frozen: FrozenName
    tail: str
    draw: int
    scorer: str
    mined: int
    strategy: str
    pool: PoolKind = "uniform"

    @property
    def name(self) -> str:
        """For people and for files."""
        config = _config(self.frozen, self.strategy).model_dump(mode="json")
        about = asdict(self)
        if self.pool == "uniform":
            del about["pool"]  # cells from before there was another one
        told = json.dumps([about, config, VERSION], sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()[:10]
        kind = () if self.pool == "uniform" else (self.pool,)
        parts = (*kind, self.frozen, self.tail.replace(",", "-"), self.draw, self.scorer or "start")
        return "-".join(map(str, (*parts, self.mined, self.strategy, digest)))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="class/NNNN.jpg in a zip")
    parser.add_argument("--sifar", type=Path, default=Path("var/sifar10"), help="frozen models")
    parser.add_argument("--cache", type=Path, default=Path("var/sifar_loop"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--frozen", nargs="+", default=["eff"], choices=["eff", "cnn"])
    parser.add_argument("--tails", nargs="+", default=["airplane,automobile"])
    parser.add_argument("--draws", nargs="+", type=int, default=[0, 1])
    parser.add_argument(
        "--pools", nargs="+", default=["uniform", "natural"], choices=["uniform", "natural"]
    )
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--table", action="store_true", help="compute nothing")
    return parser.parse_args(arguments)


def cells_of(given: argparse.Namespace) -> list[LoopCell]:
    found = []
    for frozen, pool in itertools.product(given.frozen, given.pools):
        places = list(itertools.product(given.tails, given.draws))
        found += [LoopCell(frozen, tail, draw, "", 0, "erm") for tail, draw in places]
        # A strategy after the other: what is computed first makes a whole table.
        found += [
            LoopCell(frozen, tail, draw, scorer, mined, strategy, pool)
            for strategy, (tail, draw), scorer, mined in itertools.product(
                given.strategies, places, (OURS, *RIVALS), MINED
            )
        ]
    return list(dict.fromkeys(found))  # the start is the same for every pool


def _config(frozen: str, strategy: str) -> FinetuneConfig:
    return FinetuneConfig(
        strategy=strategy,
        epochs=20,
        min_steps=0,
        batch=128,
        learning_rate=1e-3 if frozen == "eff" else 3e-4,
        schedule="cosine",
        augmentation="none",
        precision="32",  # bfloat16 took three times as long on the processor
        checkpoint_every_s=60,
    )


def main() -> None:
    given = parse()
    cells = cells_of(given)
    given.cache.mkdir(parents=True, exist_ok=True)
    missing = [cell for cell in cells if not _path(given.cache, cell).exists()]
    if not given.table and missing:
        needed = [_mining(cell) for cell in missing]
        prepare(needed, given.archive, given.sifar, given.workers)
        read_pictures(given.archive, given.sifar)
        say(f"{len(cells)} cells, {len(missing)} to compute")
        single_thread_variables()
        context = multiprocessing.get_context("spawn")
        # Cells of a draw follow each other: what is loaded is kept.
        jobs = [(given, cell) for cell in missing]
        with context.Pool(given.workers, initializer=start_worker) as pool:
            for done, name in enumerate(pool.imap(_one, jobs, chunksize=1), start=1):
                say(f"{done} of {len(missing)}: {name}")
    results = {
        cell: json.loads(_path(given.cache, cell).read_text())
        for cell in cells
        if _path(given.cache, cell).exists()
    }
    told = {
        "benchmark": "sifar_loop",
        "command": shlex.join([".venv/bin/python", "-m", "benchmarks.sifar_loop", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commits": dict(Counter(result["commit"] for result in results.values())),
        "cells": len(results),
        "cells_missing": len(cells) - len(results),
        "config": {name: _config(name, "erm").model_dump() for name in given.frozen},
        "cpu_minutes": round(sum(result["cpu_s"] for result in results.values()) / 60, 1),
        "lines": _lines(given, results),
    }
    write_text(given.out, json.dumps(told, indent=1) + "\n")
    write_text(given.out.with_suffix(".md"), _page(told))
    print(json.dumps(told, indent=1))


def _path(cache: Path, cell: LoopCell) -> Path:
    return cache / f"{cell.name}.json"


def _mining(cell: LoopCell) -> Cell:
    """The cell of `benchmarks.sifar10` whose draw this is."""
    return Cell("rank", cell.frozen, cell.tail, cell.draw, None, cell.scorer or OURS, 0)


def _one(job: tuple[argparse.Namespace, LoopCell]) -> str:
    given, cell = job
    began = time.process_time()
    draw = draw_of(_mining(cell), given.sifar)
    mined = _mine(given.cache, cell, draw) if cell.scorer else np.empty(0, dtype=np.int64)
    ids = np.concatenate([draw.labeled.examples.ids, mined])
    inputs, network = _start(given, cell, draw)
    targets = torch.from_numpy(draw.targets)
    run_dir = given.cache / "runs" / cell.name
    rows = torch.from_numpy(ids)
    if cell.scorer or cell.frozen == "eff":
        done = finetune(
            network,
            TrainingSet(inputs[rows], targets[rows], CLASSES),
            mean=(),
            std=(),
            config=_config(cell.frozen, cell.strategy),
            run_dir=run_dir,
            seed=cell.draw,
        )
        network = done.network
    test = torch.from_numpy(_test_ids(cell, draw))
    said = predict(network, inputs[test], device=torch.device("cpu"))
    metrics = ClassMetrics.from_probabilities(
        targets[test].numpy(), said.numpy(), class_names=CLASSES, tail=draw.tail
    )
    result = {
        "recall": [found.recall for found in metrics.classes],
        "balanced_accuracy": metrics.balanced_accuracy,
        "labels": np.bincount(draw.targets[ids], minlength=len(CLASSES)).tolist(),
        "cpu_s": round(time.process_time() - began, 1),
        "commit": current_commit(),
    }
    shutil.rmtree(run_dir, ignore_errors=True)
    write_text(_path(given.cache, cell), json.dumps(result) + "\n")
    return cell.name


def _mine(cache: Path, cell: LoopCell, draw: Draw) -> NDArray[np.int64]:
    """(mined,) ids, rarest first; every budget is the head of the same queue."""
    kind = "" if cell.pool == "uniform" else f"{cell.pool}-"
    path = cache / f"queue-{kind}{cell.frozen}-{cell.tail}-{cell.draw}-{cell.scorer}.npy"
    if not path.exists():
        config = ENTRIES[cell.scorer].config
        pool = draw.pools[cell.pool]
        scorer = SCORERS[config.scorer](config).fit(
            draw.labeled, pool, classes=draw.classes, seed=cell.draw
        )
        save_array(path, scorer.rank(pool, budget=max(MINED), seed=cell.draw).ids)
    queue: NDArray[np.int64] = np.load(path)
    return queue[: cell.mined]


def _start(given: argparse.Namespace, cell: LoopCell, draw: Draw) -> tuple[Tensor, nn.Module]:
    """Inputs by id, and the network that is fine-tuned.

    Ids are shuffled rows of the pictures (benchmarks/sifar/draws.py).
    """
    rows_by_id = np.argsort(shuffled_ids(cell.draw)[0])
    if cell.frozen == "eff":
        features = np.load(given.sifar / "eff" / "features.npy", mmap_mode="r")
        inputs = torch.from_numpy(np.asarray(features[rows_by_id], dtype=np.float32))
        known = inputs[torch.from_numpy(draw.labeled.examples.ids)]
        inputs = (inputs - known.mean(dim=0)) / known.std(dim=0).clamp_min(1e-6)
        torch.manual_seed(cell.draw)
        head = nn.Linear(inputs.shape[1], len(CLASSES))
        nn.init.zeros_(head.weight)
        return inputs, nn.Sequential(head)
    key = CnnKey(tail_of(cell.tail), cell.draw % CNN_TRAININGS)
    network = Cnn4(len(CLASSES))
    state = load_file(given.sifar / key.name / "checkpoint.safetensors")
    state.pop("accuracy")
    network.load_state_dict(state)
    network.eval()
    inputs = _convolved(given, key, network)[torch.from_numpy(rows_by_id)]
    block = copy.deepcopy(network.features[_BLOCK_AT:])
    return inputs, nn.Sequential(*block, copy.deepcopy(network.classifier))


@torch.inference_mode()
def _convolved(given: argparse.Namespace, key: CnnKey, network: Cnn4) -> Tensor:
    """(50,000, 4096) half precision: what the convolutions say."""
    path = given.cache / f"{key.name}-convolved.npy"
    if not path.exists():
        pictures = read_pictures(given.archive, given.sifar)
        said = []
        for start in range(0, len(pictures.targets), 500):
            pixels = torch.from_numpy(np.array(pictures.pixels[start : start + 500]))
            scaled = pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
            said.append(network.features[:_BLOCK_AT](scaled).half().numpy())
        save_array(path, np.concatenate(said))
    return torch.from_numpy(np.load(path)).clone()


def _test_ids(cell: LoopCell, draw: Draw) -> NDArray[np.int64]:
    ids, _ = shuffled_ids(cell.draw)
    return ids[make_split(draw.tail, seed=cell.draw).test]


# What is told --------------------------------------------------------------------------------


def _lines(
    given: argparse.Namespace, results: Mapping[LoopCell, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Means over tails and draws, in % and points."""
    lines = []
    for frozen, pool in itertools.product(given.frozen, given.pools):
        start = _mean(given, results, frozen, "", 0, "erm", "uniform")
        if start:
            about = {"frozen": frozen, "pool": pool, "scorer": "start", "mined": 0, "strategy": "-"}
            lines.append(about | start)
        for mined, strategy in itertools.product(MINED, given.strategies):
            own = _mean(given, results, frozen, OURS, mined, strategy, pool)
            for scorer in (OURS, *RIVALS):
                found = _mean(given, results, frozen, scorer, mined, strategy, pool)
                if not found:
                    continue
                about = {
                    "frozen": frozen,
                    "pool": pool,
                    "scorer": scorer,
                    "mined": mined,
                    "strategy": strategy,
                }
                if scorer != OURS and own:
                    found |= {
                        f"ours_ahead.{name}": round(own[name][0] - found[name][0], 1)
                        for name in ("rarer", "rare", "tail")
                    }
                lines.append(about | found)
    return lines


def _mean(
    given: argparse.Namespace,
    results: Mapping[LoopCell, Mapping[str, Any]],
    frozen: Any,
    scorer: str,
    mined: int,
    strategy: str,
    pool: PoolKind,
) -> dict[str, Any]:
    found: dict[str, list[float]] = {"rarer": [], "rare": [], "tail": [], "balanced_accuracy": []}
    labels = []
    for tail, draw in itertools.product(given.tails, given.draws):
        result = results.get(LoopCell(frozen, tail, draw, scorer, mined, strategy, pool))
        if result is None:
            return {}
        rarer, rare = tail_of(tail)
        recall = result["recall"]
        found["rarer"].append(recall[rarer])
        found["rare"].append(recall[rare])
        found["tail"].append((recall[rarer] + recall[rare]) / 2)
        found["balanced_accuracy"].append(result["balanced_accuracy"])
        labels.append([result["labels"][rarer], result["labels"][rare]])
    return {name: _spread(values) for name, values in found.items()} | {
        "tail_labels": np.mean(labels, axis=0).round(1).tolist()
    }


def _spread(values: list[float]) -> list[float]:
    numbers = 100 * np.asarray(values)
    deviation = numbers.std(ddof=1) if len(numbers) > 1 else 0.0
    return [round(float(numbers.mean()), 1), round(float(deviation), 1)]


def _page(told: Mapping[str, Any]) -> str:
    lines = [
        "# SIFAR-10, the loop closed",
        "",
        f"`{told['command']}`, {told['date']}, {told['cpu_minutes']} minutes of "
        "processor time. Recall on the balanced test in %, mean and standard deviation over the "
        "draws; labels: of the rarer and the other tail class after mining.",
        "",
        "| frozen | pool | mined | strategy | by | labels | rarer | other | both | all ten "
        "| ours ahead: rarer, other (points; relative) |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    own: Mapping[str, Any] = {}
    for line in told["lines"]:
        if line["scorer"] == OURS:
            own = line
        ahead = ""
        if "ours_ahead.rarer" in line:
            parts = [
                f"{line[f'ours_ahead.{name}']:+.1f}; {_relative(own[name][0], line[name][0])}"
                for name in ("rarer", "rare")
            ]
            ahead = ", ".join(parts)
        figures = " | ".join(
            f"{line[name][0]:.1f} ± {line[name][1]:.1f}"
            for name in ("rarer", "rare", "tail", "balanced_accuracy")
        )
        labels = " + ".join(f"{count:g}" for count in line["tail_labels"])
        lines.append(
            f"| {line['frozen']} | {line['pool']} | {line['mined']} | {line['strategy']} "
            f"| {line['scorer']} | {labels} | {figures} | {ahead} |"
        )
    return "\n".join(lines) + "\n"


def _relative(ours: float, base: float) -> str:
    return "n/a" if base == 0 else f"{100 * (ours - base) / base:+.0f} %"


if __name__ == "__main__":
    main()
