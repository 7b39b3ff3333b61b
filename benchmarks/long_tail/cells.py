"""One strategy with one seed: computed once, kept as a JSON file of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.long_tail.presets import MEAN, STD, Preset
from benchmarks.long_tail.profile import long_tail, long_tail_counts
from benchmarks.sifar.pictures import CLASSES, Pictures
from benchmarks.sifar.work import current_commit
from benchmarks.stage import say
from models.class_metrics import ClassMetrics
from models.files import write_text
from models.rebalancing import make_strategy
from models.recipes.finetune import METRICS, finetune
from models.recipes.forward import Scaled, predict
from models.recipes.training_set import TrainingSet

#: Raised when a change makes earlier cells worthless.
VERSION = 1


def cell_name(preset: Preset, strategy: str, seed: int) -> str:
    """Of its file and of its run directory: what the result depends on."""
    told = [preset.network, preset.most, preset.ratio, preset.config.model_dump(), VERSION]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    return f"{preset.network}-{digest}-{strategy}-{seed}"


def cell_path(cache: Path, preset: Preset, strategy: str, seed: int) -> Path:
    """Where the result of a cell is."""
    return cache / f"{cell_name(preset, strategy, seed)}.json"


def compute_cell(
    preset: Preset, strategy: str, seed: int, pictures: Pictures, cache: Path, device: str
) -> dict[str, object]:
    """Train and test, or read what an earlier run found."""
    name = cell_name(preset, strategy, seed)
    path = cell_path(cache, preset, strategy, seed)
    if path.exists():
        found: dict[str, object] = json.loads(path.read_text())
        return found
    counts = long_tail_counts(preset.most, preset.ratio)
    (inputs, targets), (test, truth) = long_tail(pictures, counts, seed=seed)
    run_dir = cache / name
    _borrow_reference(cache / cell_name(preset, "erm", seed), run_dir, strategy)
    config = preset.config.model_copy(update={"strategy": strategy, "device": device})
    began = time.process_time()
    done = finetune(
        preset.make_network(seed),
        TrainingSet(inputs, targets, CLASSES),
        mean=MEAN,
        std=STD,
        config=config,
        run_dir=run_dir,
        seed=seed,
        progress=_teller(name),
    )
    network = Scaled(done.network, MEAN, STD).to(device)
    said = predict(network, test, device=torch.device(device))
    metrics = ClassMetrics.from_probabilities(truth.numpy(), said.numpy(), class_names=CLASSES)
    epochs = [json.loads(line) for line in (run_dir / METRICS).read_text().splitlines()]
    result = {
        "strategy": strategy,
        "seed": seed,
        "balanced_accuracy": metrics.balanced_accuracy,
        "geometric_mean": metrics.geometric_mean,
        "macro_f1": metrics.macro_f1,
        "recall": [found.recall for found in metrics.classes],
        "calibration_error": metrics.calibration_error,
        "epochs": epochs,
        "cpu_s": round(time.process_time() - began, 1),
        "commit": current_commit(),
    }
    write_text(path, json.dumps(result) + "\n")
    for leftover in run_dir.rglob("*.safetensors"):
        if strategy != "erm":  # g of the others is kept
            leftover.unlink()
    say(f"{name}: balanced accuracy {metrics.balanced_accuracy:.3f}")
    return result


def _borrow_reference(erm: Path, run_dir: Path, strategy: str) -> None:
    """Take the network that the same seed's cell of erm has trained for g."""
    reference = run_dir / "reference"
    if make_strategy(strategy, {}).needs_reference and erm.is_dir() and not reference.exists():
        shutil.copytree(erm, reference)


def _teller(name: str) -> Callable[..., None]:
    told = time.monotonic()

    def progress(done: int, total: int, message: str = "") -> None:
        nonlocal told
        if time.monotonic() - told > 60:
            told = time.monotonic()
            say(f"{name}: {message}")

    return progress
