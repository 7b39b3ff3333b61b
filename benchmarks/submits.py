"""How long an annotator's submit takes while old predictions are deleted, and while none are.

A real Label Studio (SQLite) with a project of 1,000 digit tasks, in which queues of 300 scores
were replaced, so that old ones are left to delete. One annotator takes and submits tasks with
short pauses, in turns (a) while the project is paused and nothing is deleted and (b) while the
loop syncs after each submit and deletes, then (c) while `rarefirst disconnect` deletes the rest.
Counts what was deleted meanwhile. Prints JSON; `met` says whether the slowest submit of (b) and of
(c) took at most 0.5 s longer than the slowest of (a), and the exit status is 1 if not.

    .venv/bin/python -m benchmarks.submits [--turns 3] [--submits 30] [--tasks 1000]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.stage import Stage, conclude, say, stage
from demo.annotator import Annotator
from demo.backend_process import COMMAND
from demo.digits import choose_digits
from demo.project import create_digits_project
from demo.queue_watch import wait_for_queue

LIMIT_S = 0.5
TOP_K = 300
REPLACED = 4
THINK_S = (0.3, 2.5)
# Nothing but labels, looks at them and deletions: no training, no fit and no import in between.
EXTRA = {
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "100000",
    "RAREFIRST_FIT_EVERY_LABELS": "100000",
    "RAREFIRST_FIT_IDLE_S": "100000",
    "RAREFIRST_TOP_UP_BELOW": "0",
    "RAREFIRST_TOP_K": str(TOP_K),
}


@dataclass
class Phase:
    """Submits that were made under the same conditions.

    Attributes:
        seconds: of each submit.
        deleted: predictions that disappeared meanwhile.
    """

    seconds: list[float] = field(default_factory=list)
    deleted: int = 0

    def summary(self) -> dict[str, object]:
        """The figures of the result."""
        cuts = statistics.quantiles(self.seconds, n=20)
        return {
            "submits": len(self.seconds),
            "deleted_meanwhile": self.deleted,
            "median_s": round(statistics.median(self.seconds), 3),
            "p95_s": round(cuts[-1], 3),
            "slowest_s": round(max(self.seconds), 3),
        }


def predictions(on: Stage, project: int) -> int:
    """Predictions in the project."""
    return sum(on.api.model_versions(project).values())


def work(
    on: Stage,
    project: int,
    annotator: Annotator,
    phase: Phase,
    rng: random.Random,
    *,
    until: Callable[[int], bool],
) -> None:
    """Take and submit tasks, timing each submit, until ``until`` says so of their number."""
    before, done = predictions(on, project), 0
    while not until(done):
        served = annotator.next_task()
        assert served is not None, "the project has too few tasks"
        time.sleep(rng.uniform(*THINK_S))
        began = time.perf_counter()
        annotator.submit(*served)
        phase.seconds.append(time.perf_counter() - began)
        done += 1
    phase.deleted += before - predictions(on, project)


def settle(on: Stage, project: int) -> None:
    """Wait until the round that runs has ended and nothing is deleted any more."""
    before = -1
    while before != (before := predictions(on, project)):
        time.sleep(3)


def fill(on: Stage, project: int) -> None:
    """Have the queue replaced, so that old scores are left over."""
    on.backend.connect(project)
    queue, _ = wait_for_queue(on.api, project, timeout_s=600)
    listed = on.api.request("GET", "/api/ml", query={"project": project}).json()
    for number in range(REPLACED):
        on.api.request("POST", f"/api/ml/{listed[0]['id']}/train", body={})
        queue, _ = wait_for_queue(on.api, project, other_than=queue.version, timeout_s=600)
        say(f"queue {number + 2} is served; {predictions(on, project)} predictions are there")


def measure(on: Stage, arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    digits = choose_digits(0, pool_size=arguments.tasks - 160)
    project = create_digits_project(on.api, digits, title="submits", progress=say)
    fill(on, project)
    annotator = Annotator(on.api, project, digits.truth)
    rng = random.Random(0)
    alone, loop, leaving = Phase(), Phase(), Phase()
    number = str(project)
    for turn in range(arguments.turns):
        on.backend.command("pause", "--project", number)
        settle(on, project)
        work(on, project, annotator, alone, rng, until=lambda n: n >= arguments.submits)
        on.backend.command("resume", "--project", number)
        work(on, project, annotator, loop, rng, until=lambda n: n >= arguments.submits)
        say(
            f"turn {turn + 1}: slowest {max(alone.seconds):.2f} s with nothing deleted, "
            f"{max(loop.seconds):.2f} s with {loop.deleted} deleted"
        )
    disconnecting = subprocess.Popen(
        [str(COMMAND), "disconnect", "--project", number],
        env=on.backend.settings.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(3)  # everything but the scores is put back first
        work(
            on, project, annotator, leaving, rng,
            until=lambda n: disconnecting.poll() is not None or n >= 2 * arguments.submits,
        )  # fmt: skip
    finally:
        disconnecting.terminate()  # what is left would take minutes more
        disconnecting.wait()
    say(f"disconnecting: slowest {max(leaving.seconds):.2f} s with {leaving.deleted} deleted")
    slowest = max(alone.seconds)
    differences = {
        "by_the_loop": max(loop.seconds) - slowest,
        "by_disconnecting": max(leaving.seconds) - slowest,
    }
    result: dict[str, object] = {
        "benchmark": "submits",
        "tasks": arguments.tasks,
        "cores": os.cpu_count(),
        "nothing_deleted": alone.summary(),
        "deleted_by_the_loop": loop.summary(),
        "deleted_by_disconnecting": leaving.summary(),
        "slowest_longer_by_s": {name: round(value, 3) for name, value in differences.items()},
        "limit_s": LIMIT_S,
        "ratio_to_limit": round(max(differences.values()) / LIMIT_S, 3),
    }
    deleted = loop.deleted > 0 and leaving.deleted > 0
    return result, deleted and max(differences.values()) <= LIMIT_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--submits", type=int, default=30)
    parser.add_argument("--tasks", type=int, default=1000)
    arguments = parser.parse_args()
    with stage(EXTRA) as on:
        result, met = measure(on, arguments)
    conclude(result, met=met)


if __name__ == "__main__":
    main()
