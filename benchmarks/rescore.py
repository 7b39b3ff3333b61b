"""Fit and rescore on cached features, against the one matrix product that cannot be avoided.

(a) 14,398 labels x 512, a pool of 24,000, ten classes, two of them rare: `fit_miner`, then judge
and rank, as Fit and Publish do. (b) 1,000,000 x 512 cached float16 rows: `Miner.rescore`, which
judges every row (rarity, predicted class, confidence) and ranks the unlabeled ones, as Publish
does; with a one-class error of weight 0 and above it. Its yardstick is the float32 product
X (1,000,000 x 512) by W (512 x 10), the fastest of three ways to have it: `streamed` from the same
float16 rows, converted batch by batch as we do, and `torch` and `numpy` on a float32 copy made
before the clock starts. All are warm, take turns, and use the worker's threads.

Peak memory is that of a process of its own, which makes the float16 rows and ids, rescores, and
ranks: the kernel's high-water mark (VmHWM) less the resident memory before the rows were made, over
the bytes of rows and ids. `mirror`, for information: the same rows read from LanceDB first.

Features: two of ten Gaussian clouds in 64 directions are rare, in half precision. Prints JSON;
`met` says whether fit + rescore, the larger of the ratios and the memory keep their limits, and
the exit status is 1 if not.

    .venv/bin/python -m benchmarks.rescore [--rows 1000000] [--repeats 7] [--no-mirror]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backend.cores import usable_cores, wait_without_spinning

wait_without_spinning()

import numpy as np  # noqa: E402  (torch reads the line above when it is imported)
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from backend.mirror import Mirror  # noqa: E402
from benchmarks.stage import conclude, say  # noqa: E402
from models.config import MinerConfig  # noqa: E402
from models.recipes.fit_miner import Miner, fit_miner  # noqa: E402
from models.scorers.rarefirst import RareFirst  # noqa: E402
from models.streaming import batch_rows, feature_batches  # noqa: E402
from models.types import ClassSpace, Examples, LabeledExamples  # noqa: E402

if TYPE_CHECKING:
    from models.types import IntArray

WIDTH, CLASSES, QUEUE = 512, 10, 300
#: Labels of each class; the first two are rare (the published SIFAR-10 split, METHODS section 1).
LABELS = (5, 59, 561, 1676, 1953, 2021, 2060, 2070, 2028, 1965)
POOL = 24_000
MAX_SECONDS, MAX_RATIO, MAX_MEMORY = 2.0, 2.0, 1.3
FINGERPRINT = "benchmark"


@dataclass(frozen=True)
class Clouds:
    """Where the classes lie: features of any number of examples are drawn from here."""

    centers: NDArray[np.float32]
    spread: NDArray[np.float32]

    @classmethod
    def make(cls) -> Clouds:
        """The same each time."""
        rng = np.random.default_rng(0)
        centers = 0.2 * rng.normal(size=(CLASSES, WIDTH))
        spread = rng.normal(size=(64, WIDTH)) / 8
        return cls(centers.astype(np.float32), spread.astype(np.float32))

    def fill(self, out: NDArray[np.float16], targets: IntArray, seed: int) -> None:
        """Non-negative, correlated, with some noise of its own in each unit."""
        rng = np.random.default_rng(seed)
        for start in range(0, len(out), 2000):
            part = targets[start : start + 2000]
            hidden = rng.standard_normal((len(part), 64), dtype=np.float32)
            noise = rng.standard_normal((len(part), WIDTH), dtype=np.float32)
            values = self.centers[part] + hidden @ self.spread + 0.5 * noise
            out[start : start + len(part)] = np.maximum(values, 0)


def classes() -> ClassSpace:
    shares = (np.asarray(LABELS) + 1) / (sum(LABELS) + CLASSES)
    return ClassSpace(tuple("abcdefghij"), (0, 1), tuple(shares.tolist()))


def draw(clouds: Clouds, count: int, seed: int) -> tuple[NDArray[np.float16], IntArray]:
    """A pool at the labels' shares."""
    shares = np.asarray(LABELS) / sum(LABELS)
    targets = np.random.default_rng(seed).choice(CLASSES, count, p=shares)
    features = np.empty((count, WIDTH), dtype=np.float16)
    clouds.fill(features, targets, seed)
    return features, targets


def labeled_examples(clouds: Clouds) -> LabeledExamples:
    targets = np.random.default_rng(1).permutation(np.repeat(np.arange(CLASSES), LABELS))
    features = np.empty((len(targets), WIDTH), dtype=np.float16)
    clouds.fill(features, targets, 1)
    ids = np.arange(len(targets), dtype=np.int64)
    return LabeledExamples(Examples(ids, features), targets)


def fitted(labeled: LabeledExamples, pool: Examples) -> Miner:
    return fit_miner(labeled, pool, classes=classes(), config=MinerConfig(), seed=0)


def weighed(miner: Miner, weight: float) -> Miner:
    """The same miner with another weight of the one-class error; saved and read like a version."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        miner.save(folder)
        other = Miner.load(folder)
    scorer = other.scorer
    assert isinstance(scorer, RareFirst)
    scorer.weigh(weight)
    return other


# (a) --------------------------------------------------------------------------------------------


def fit_and_rescore(clouds: Clouds, repeats: int) -> tuple[dict[str, object], Miner]:
    labeled = labeled_examples(clouds)
    features, truth = draw(clouds, POOL, 2)
    everything = Examples(
        np.arange(len(labeled) + POOL, dtype=np.int64),
        np.concatenate([labeled.examples.features, features]),
    )
    labeled_rows = np.arange(len(labeled))
    pool_rows = np.arange(len(labeled), len(everything))
    labeled = LabeledExamples(everything.take(labeled_rows), labeled.targets)
    fits, rescores = [], []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        miner = fitted(labeled, everything.take(pool_rows))
        between = time.perf_counter()
        _, queue = miner.rescore(everything, pool_rows, budget=QUEUE, seed=0)
        fits.append(between - began)
        rescores.append(time.perf_counter() - between)
    both = [one + other for one, other in zip(fits[1:], rescores[1:], strict=True)]
    found = np.isin(truth[queue.ids - len(labeled)], classes().tail)
    result: dict[str, object] = {
        "labels": len(labeled),
        "pool": POOL,
        "width": WIDTH,
        "classes": CLASSES,
        "seconds": spread(both),
        "fit_seconds": spread(fits[1:]),
        "rescore_seconds": spread(rescores[1:]),
        "first_time_seconds": round(fits[0] + rescores[0], 3),
        "rare_in_queue": int(found.sum()),
        "rare_in_pool": int(np.isin(truth, classes().tail).sum()),
        "limit_s": MAX_SECONDS,
    }
    return result, miner


# (b) --------------------------------------------------------------------------------------------


def products(
    features: NDArray[np.float16], weight: NDArray[np.float32]
) -> dict[str, Callable[[], object]]:
    """The yardsticks; ``torch`` and ``numpy`` share a float32 copy of all rows."""
    examples = Examples(np.arange(len(features), dtype=np.int64), features)
    # The layout of a linear layer: with ten columns torch is twice as fast at it as the other way.
    turned = torch.from_numpy(np.ascontiguousarray(weight.T))
    out = torch.empty((len(features), weight.shape[1]))

    def streamed() -> None:
        for start, batch in feature_batches(examples, batch_rows(WIDTH, weight.shape[1])):
            torch.mm(batch, turned.T, out=out[start : start + len(batch)])

    single = torch.from_numpy(features).float()
    dense = single.numpy()
    filled = out.numpy()
    return {
        "streamed": streamed,
        "torch": lambda: torch.mm(single, turned.T, out=out),
        "numpy": lambda: np.matmul(dense, weight, out=filled),
    }


def rescore_many(clouds: Clouds, miner: Miner, rows: int, repeats: int) -> dict[str, object]:
    features, _ = draw(clouds, rows, 3)
    examples = Examples(np.arange(rows, dtype=np.int64), features)
    pool = np.arange(rows // 100, rows)  # a hundredth of them is labeled
    miners = {"weight_0": weighed(miner, 0.0), "weight_0.5": weighed(miner, 0.5)}
    runs: dict[str, Callable[[], object]] = {
        name: partial(one.rescore, examples, pool, budget=QUEUE, seed=0)
        for name, one in miners.items()
    }
    scorer = miner.scorer
    assert isinstance(scorer, RareFirst)
    runs |= products(features, scorer.layer.weight)
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if turn:  # the first one warms up
                taken[name].append(time.perf_counter() - began)
    yardsticks = ("streamed", "torch", "numpy")
    medians = {name: statistics.median(taken[name]) for name in runs}
    strictest = min(yardsticks, key=medians.__getitem__)
    began = time.perf_counter()
    scorer.reconstruction_error(examples)
    return {
        "rows": rows,
        "width": WIDTH,
        "seconds": {name: spread(values) for name, values in taken.items()},
        "ratios": {
            name: {by: round(medians[name] / medians[by], 2) for by in yardsticks}
            for name in miners
        },
        "strictest": strictest,
        "ratio": {name: round(medians[name] / medians[strictest], 3) for name in miners},
        "one_class_error_of_all_rows_seconds": round(time.perf_counter() - began, 2),
        "limit": MAX_RATIO,
    }


# Memory -----------------------------------------------------------------------------------------


def measure_memory(arguments: argparse.Namespace) -> None:
    """The child process: make the rows, or read them from a mirror, rescore, tell the peak."""
    miner = weighed(Miner.load(arguments.miner), arguments.weight)
    # What the libraries take once belongs to the process, not to the rows.
    clouds = Clouds.make()
    few, _ = draw(clouds, 2000, 4)
    miner.rescore(Examples(np.arange(2000), few), np.arange(2000), budget=QUEUE, seed=0)
    before = status_bytes("VmRSS")
    began = time.perf_counter()
    if arguments.mirror is None:
        features, _ = draw(clouds, arguments.rows, 3)
        examples = Examples(np.arange(arguments.rows, dtype=np.int64), features)
    else:
        table = Mirror(arguments.mirror).features(FINGERPRINT)
        assert table is not None
        features, examples = table.vectors, Examples(table.ids, table.vectors)
    read_seconds = time.perf_counter() - began
    pool = np.arange(len(examples) // 100, len(examples))
    after_rows = status_bytes("VmHWM")
    began = time.perf_counter()
    miner.rescore(examples, pool, budget=QUEUE, seed=0)
    seconds = time.perf_counter() - began
    cache = features.nbytes + examples.ids.nbytes
    print(
        json.dumps(
            {
                "cache_mib": round(cache / 2**20, 1),
                "peak_mib": round((status_bytes("VmHWM") - before) / 2**20, 1),
                "ratio": round((status_bytes("VmHWM") - before) / cache, 3),
                "rows_alone_ratio": round((after_rows - before) / cache, 3),
                "read_seconds": round(read_seconds, 2),
                "rescore_seconds": round(seconds, 3),
            }
        )
    )


def status_bytes(name: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {name}: peak memory is measured on Linux only")


def in_child(miner: Path, rows: int, weight: float, mirror: Path | None = None) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.rescore", "--memory-of", str(miner)]
    command += ["--rows", str(rows), "--weight", str(weight)]
    command += [] if mirror is None else ["--mirror", str(mirror)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def write_mirror(path: Path, clouds: Clouds, rows: int) -> float:
    """A mirror with so many rows of features; seconds that writing took."""
    mirror, began = Mirror(path), time.perf_counter()
    for start in range(0, rows, 50_000):
        count = min(50_000, rows - start)
        features, _ = draw(clouds, count, 5 + start)
        ids = np.arange(start, start + count, dtype=np.int64)
        digests = [f"{number:016x}" for number in ids.tolist()]
        mirror.add_features(FINGERPRINT, ids=ids, digests=digests, vectors=features, logits=None)
    mirror.compact()
    return time.perf_counter() - began


# ------------------------------------------------------------------------------------------------


def spread(seconds: list[float]) -> dict[str, float]:
    return {
        "min": round(min(seconds), 3),
        "median": round(statistics.median(seconds), 3),
        "max": round(max(seconds), 3),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--no-mirror", action="store_true", help="leave LanceDB out")
    # What the benchmark tells its own child processes.
    parser.add_argument("--memory-of", dest="miner", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weight", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--mirror", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    torch.set_num_threads(usable_cores())
    if arguments.miner is not None:
        measure_memory(arguments)
        return
    clouds = Clouds.make()
    say("fit and rescore")
    small, miner = fit_and_rescore(clouds, arguments.repeats)
    say(f"rescoring {arguments.rows} rows")
    many = rescore_many(clouds, miner, arguments.rows, arguments.repeats)
    with tempfile.TemporaryDirectory(prefix="rarefirst-bench-") as name:
        folder = Path(name)
        miner.save(folder / "miner")
        say("peak memory, in processes of their own")
        memory = {
            f"weight_{weight:g}": in_child(folder / "miner", arguments.rows, weight)
            for weight in (0.0, 0.5)
        }
        whole: dict[str, float] = {}
        if not arguments.no_mirror:
            say("the same from LanceDB")
            written = write_mirror(folder / "mirror", clouds, arguments.rows)
            whole = in_child(folder / "miner", arguments.rows, 0.5, folder / "mirror")
            whole["write_seconds"] = round(written, 1)
    seconds = small["seconds"]
    assert isinstance(seconds, dict)
    ratios = many["ratio"]
    assert isinstance(ratios, dict)
    worst_memory = max(told["ratio"] for told in memory.values())
    conclude(
        {
            "benchmark": "rescore",
            "command": " ".join([".venv/bin/python -m benchmarks.rescore", *sys.argv[1:]]),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_average": round(os.getloadavg()[0], 2),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "repeats": arguments.repeats,
            "fit_and_rescore": small,
            "rescore": many,
            "memory": {**memory, "limit": MAX_MEMORY},
            "mirror": whole,
        },
        met=seconds["median"] <= MAX_SECONDS
        and max(ratios.values()) <= MAX_RATIO
        and worst_memory <= MAX_MEMORY,
    )


if __name__ == "__main__":
    main()
