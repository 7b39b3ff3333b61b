"""What M2m and instance difficulty cost: their epochs against plain ones of the same run.

M2m: a run whose second half translates; its epochs over those of the first half. Difficulty: an
epoch with its predictions of all examples over the training in it. CIFAR-10 with a long tail, one
thread. Prints JSON; ends with 1 where a limit is missed.

    .venv/bin/python -m benchmarks.finetune_cost
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.long_tail.presets import MEAN, PRESETS, STD
from benchmarks.long_tail.profile import long_tail, long_tail_counts
from benchmarks.sifar.pictures import CLASSES, read_pictures
from benchmarks.sifar.work import current_commit
from benchmarks.stage import conclude, say
from models.files import write_text
from models.recipes.finetune import METRICS, finetune
from models.recipes.training_set import TrainingSet

LIMITS = {"m2m": 8.0, "difficulty": 1.4}
#: Of the released M2m code (docs/methods.md, section 11).
RELEASED = "12 to 16"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--archive", type=Path, default=Path("../shared/data/cifar10-train.zip"))
    parser.add_argument("--pixels", type=Path, default=Path("var/sifar10"))
    parser.add_argument("--networks", nargs="+", default=["resnet8", "resnet32"])
    parser.add_argument("--most", type=int, default=1000, help="pictures of the largest class")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/finetune_cost.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    pictures = read_pictures(given.archive, given.pixels)
    counts = long_tail_counts(given.most, 100)
    (inputs, targets), _ = long_tail(pictures, counts, seed=0)
    training = TrainingSet(inputs, targets, CLASSES)
    found: dict[str, dict[str, object]] = {}
    met = True
    for network in given.networks:
        ratios: dict[str, list[float]] = {"m2m": [], "difficulty": []}
        for number in range(given.rounds):
            for strategy, each in ratios.items():
                each.append(_ratio(given, network, strategy, training))
                say(f"{network}, round {number + 1}: {strategy} {each[-1]:.2f}")
        found[network] = {
            strategy: {
                "ratio": round(float(np.median(each)), 2),
                "rounds": [round(one, 2) for one in each],
                "limit": LIMITS[strategy],
            }
            for strategy, each in ratios.items()
        }
        met = met and all(np.median(ratios[name]) <= limit for name, limit in LIMITS.items())
    told = {
        "benchmark": "finetune_cost",
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": current_commit(),
        "torch": torch.__version__,
        "device": given.device,
        "counts": counts,
        "m2m_as_released": RELEASED,
        "networks": found,
    }
    write_text(given.out, json.dumps({**told, "met": met}, indent=1) + "\n")
    conclude(told, met=met)


def _ratio(given: argparse.Namespace, network: str, strategy: str, training: TrainingSet) -> float:
    preset = PRESETS["cpu"]
    options: dict[str, float | int | str | bool] = {"deferred": 0.5} if strategy == "m2m" else {}
    config = preset.config.model_copy(
        update={
            "strategy": strategy,
            "options": options,
            "epochs": 4,
            "device": given.device,
            "checkpoint_every_s": 1e9,
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        finetune(
            preset.make_network(0, network),
            training,
            mean=MEAN,
            std=STD,
            config=config,
            run_dir=Path(folder),
            seed=0,
        )
        lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    if strategy == "m2m":
        seconds = [line["epoch_s"] for line in lines]
        return float(np.mean(seconds[2:]) / np.mean(seconds[:2]))
    return float(np.median([line["epoch_s"] / line["train_s"] for line in lines]))


if __name__ == "__main__":
    main()
