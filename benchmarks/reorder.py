"""From the last label of a batch to the first `next` in the new order, split by action.

A real Label Studio (SQLite) with a project of 2,000 digit tasks, 160 of them labeled. Batches of
ten labels are submitted in the order of the label stream; the clock runs from the answer to the
last submit until `next` serves the head of a new order. The debounce, a setting, is counted apart.
Prints JSON; `met` says whether the slowest batch kept the limit, and the exit status is 1 if not.

    .venv/bin/python -m benchmarks.reorder [--batches 8] [--tasks 2000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path

from backend.reports import RoundEntry
from benchmarks.stage import Stage, conclude, say, stage
from demo.annotator import Annotator
from demo.digits import DigitSet, choose_digits
from demo.project import create_digits_project
from demo.queue_watch import ServedQueue, served_queue, wait_for_queue

BATCH = 10
LIMIT_S = 10.0
DEBOUNCE_S = 1.0


def digits(tasks: int) -> DigitSet:
    """160 labeled digits and a pool that makes up the rest, common digits taken twice if needed."""
    chosen = choose_digits(0)
    wanted = tasks - len(chosen.seeds)
    pool = list(chosen.pool)
    again = [image for image in chosen.pool if image.digit not in chosen.rare]
    for number, image in enumerate(again):
        if len(pool) >= wanted:
            break
        pool.append(replace(image, name=f"again-{number}-{image.name}"))
    return replace(chosen, pool=tuple(pool[:wanted]))


def rounds_of(data_dir: Path) -> list[RoundEntry]:
    """The rounds that the service wrote down; a round is written down when it ends."""
    paths = data_dir.glob("projects/*/history.jsonl")
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [RoundEntry.model_validate_json(line) for line in lines]


def new_orders(
    annotator: Annotator, queue: ServedQueue, *, batches: int, timeout_s: float = 120
) -> list[float]:
    """Label batch after batch; seconds from each one's last label to `next` in the new order."""
    seconds: list[float] = []
    for number in range(batches):
        annotator.label(BATCH)
        began = time.perf_counter()
        queue, _ = wait_for_queue(
            annotator.api, annotator.project_id, other_than=queue.version, timeout_s=timeout_s
        )
        served = annotator.next_task()
        assert served is not None
        seconds.append(time.perf_counter() - began)
        if served[0] not in queue.tasks[:2]:  # another one may have been published in between
            newer = served_queue(annotator.api, annotator.project_id)
            assert newer is not None
            assert newer.version != queue.version, "next does not follow the published queue"
            queue = newer
        say(f"batch {number + 1}: new order after {seconds[-1]:.1f} s")
    return seconds


def measure(on: Stage, arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    chosen = digits(arguments.tasks)
    project = create_digits_project(on.api, chosen, title="reorder", progress=say)
    on.backend.connect(project)
    queue, _ = wait_for_queue(on.api, project, timeout_s=600, waiting=lambda waited: None)
    annotator = Annotator(on.api, project, chosen.truth)
    known = len(rounds_of(on.data_dir))
    seconds = new_orders(annotator, queue, batches=arguments.batches)
    time.sleep(2)
    history = [entry for entry in rounds_of(on.data_dir)[known:] if "publish" in entry.seconds]
    actions = sorted({name for entry in history for name in entry.seconds} - {"cleanup"})
    ratio = (max(seconds) - DEBOUNCE_S) / LIMIT_S
    result: dict[str, object] = {
        "benchmark": "reorder",
        "tasks": arguments.tasks,
        "cores": os.cpu_count(),
        "seconds_from_last_label_to_next": {
            "median": round(statistics.median(seconds), 2),
            "max": round(max(seconds), 2),
            "all": [round(value, 2) for value in seconds],
        },
        "of_which_debounce_s": DEBOUNCE_S,
        "by_action_s_median": {
            name: round(statistics.median([e.seconds.get(name, 0.0) for e in history]), 2)
            for name in actions
        },
        "limit_s": LIMIT_S,
        "ratio_to_limit": round(ratio, 3),
    }
    return result, ratio <= 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=2000)
    arguments = parser.parse_args()
    with stage({"RAREFIRST_DEBOUNCE_S": str(DEBOUNCE_S)}) as on:
        result, met = measure(on, arguments)
    conclude(result, met=met)


if __name__ == "__main__":
    main()
