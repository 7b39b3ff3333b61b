"""How long an annotator's submit takes while old predictions are deleted, and while none are.

A real Label Studio (SQLite) with a project of 1,000 digit tasks, in which queues of 300 scores
were replaced, so that old ones are left to delete. One annotator takes and submits tasks with
short pauses: in turns (a) while the project is paused and (b) while the loop looks after each
submit and deletes; then in turns (c) while `rarefirst disconnect` is stopped and (d) while it
deletes. In turns, so that whatever else the machine does falls on all alike. Counts what was
deleted meanwhile. Prints JSON; `met` says whether the slowest submit took at most 0.5 s longer
than the slowest one without deletions, and the exit status is 1 if not.

    .venv/bin/python -m benchmarks.submits [--turns 5] [--submits 15] [--tasks 1000]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import subprocess
import time
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
SETTLED_S = 20.0
# Nothing but labels, looks at them and deletions: no training, no fit and no import in between.
EXTRA = {
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "100000",
    "RAREFIRST_FIT_EVERY_LABELS": "100000",
    "RAREFIRST_FIT_IDLE_S": "100000",
    "RAREFIRST_TOP_UP_BELOW": "0",
    "RAREFIRST_TOP_K": str(TOP_K),
    "RAREFIRST_TIMER_S": "10",
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

    @property
    def slowest(self) -> float:
        """Of the submits so far."""
        return max(self.seconds)

    def summary(self) -> dict[str, object]:
        """The figures of the result."""
        cuts = statistics.quantiles(self.seconds, n=20)
        return {
            "submits": len(self.seconds),
            "deleted_meanwhile": self.deleted,
            "median_s": round(statistics.median(self.seconds), 3),
            "p95_s": round(cuts[-1], 3),
            "slowest_s": round(self.slowest, 3),
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
    count: int,
) -> None:
    """Take and submit tasks, timing each submit."""
    before = predictions(on, project)
    for _ in range(count):
        served = annotator.next_task()
        assert served is not None, "the project has too few tasks"
        time.sleep(rng.uniform(*THINK_S))
        began = time.perf_counter()
        annotator.submit(*served)
        phase.seconds.append(time.perf_counter() - began)
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
    time.sleep(2 * SETTLED_S)  # the import is not among the newest changes any more
    annotator = Annotator(on.api, project, digits.truth)
    rng = random.Random(0)
    number = str(project)

    def submit(phase: Phase) -> None:
        work(on, project, annotator, phase, rng, count=arguments.submits)

    paused, loop, stopped, leaving = Phase(), Phase(), Phase(), Phase()
    for turn in range(arguments.turns):
        on.backend.command("pause", "--project", number)
        settle(on, project)
        submit(paused)
        on.backend.command("resume", "--project", number)
        submit(loop)
        say(f"turn {turn + 1}: {told(paused, loop)}")
    on.backend.command("pause", "--project", number)  # else the loop deletes too
    settle(on, project)
    disconnecting = subprocess.Popen(
        [str(COMMAND), "disconnect", "--project", number],
        env=on.backend.settings.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        before = predictions(on, project)
        while predictions(on, project) >= before:  # everything else is put back first
            assert disconnecting.poll() is None, "disconnect ended before it deleted anything"
            time.sleep(1)
        for turn in range(arguments.turns):
            disconnecting.send_signal(signal.SIGSTOP)
            settle(on, project)
            submit(stopped)
            disconnecting.send_signal(signal.SIGCONT)
            submit(leaving)
            say(f"disconnecting, turn {turn + 1}: {told(stopped, leaving)}")
    finally:
        disconnecting.kill()  # what is left would take minutes more
        disconnecting.wait()
    differences = {
        "by_the_loop": loop.slowest - paused.slowest,
        "by_disconnecting": leaving.slowest - stopped.slowest,
    }
    result: dict[str, object] = {
        "benchmark": "submits",
        "tasks": arguments.tasks,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[1], 1),
        "paused": paused.summary(),
        "the_loop_deletes": loop.summary(),
        "disconnect_stopped": stopped.summary(),
        "disconnect_deletes": leaving.summary(),
        "slowest_longer_by_s": {name: round(value, 3) for name, value in differences.items()},
        "limit_s": LIMIT_S,
        "ratio_to_limit": round(max(differences.values()) / LIMIT_S, 3),
    }
    deleted = min(loop.deleted, leaving.deleted) > 0 and paused.deleted == stopped.deleted == 0
    return result, deleted and max(differences.values()) <= LIMIT_S


def told(without: Phase, deleting: Phase) -> str:
    """The figures so far, for a person who waits."""
    return (
        f"slowest {without.slowest:.2f} s with {without.deleted} deleted, "
        f"{deleting.slowest:.2f} s with {deleting.deleted} deleted"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--submits", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=1000)
    arguments = parser.parse_args()
    with stage(EXTRA) as on:
        result, met = measure(on, arguments)
    conclude(result, met=met)


if __name__ == "__main__":
    main()
