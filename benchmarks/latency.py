"""/health, /setup and /webhook at 20 requests a second while the worker fits and embeds.

Label Studio waits one second for /health and hangs up on a webhook after one, so they must answer
whatever else goes on. Two projects on a real Label Studio: in one the worker embeds digits with
ResNet-18 at 224 px, enough of them for the whole window, in the other it is made to fit again and
again (Start training). /setup and /webhook name the project that embeds: the loop looks again
after such events, every few seconds, and goes on embedding; the other project fits undisturbed.

Prints JSON: latencies in milliseconds, errors, and what the worker was seen to do meanwhile. `met`
is true where p99 keeps the limit, nothing failed and the worker was seen both to fit and to embed
during the window; the exit status is 1 otherwise.

    .venv/bin/python -m benchmarks.latency [--seconds 60] [--rate 20]
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from backend.projects import ProgressNote
from benchmarks.stage import Stage, conclude, say, stage
from benchmarks.traffic import percentile, recorded, send
from demo.digits import DigitSet, choose_digits
from demo.project import create_digits_project
from demo.queue_watch import wait_for_queue

LIMIT_MS = 100.0
WAIT_S = 120.0
MUST_BE_SEEN = ("fit", "embed")
# More than two cores embed at 224 px, so that the work outlasts the window.
MOST_IMAGES_PER_S = 60


class Watch:
    """Samples what the worker says it does, ten times a second."""

    def __init__(self, data_dir: Path) -> None:
        self.doing: Counter[str] = Counter()
        self._folder = data_dir / "projects"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for path in self._folder.glob("*/progress.json"):
                try:
                    note = ProgressNote.model_validate_json(path.read_bytes())
                except (OSError, ValueError):
                    continue
                self.doing[note.doing] += 1


def many_digits(count: int) -> DigitSet:
    """At least so many digits in the pool, each taken as often as it needs."""
    chosen = choose_digits(0)
    copies = -(-count // len(chosen.pool))
    pool = tuple(
        replace(image, name=f"copy-{copy}-{image.name}")
        for copy in range(copies)
        for image in chosen.pool
    )
    return replace(chosen, pool=pool)


def measure(on: Stage, arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    small = choose_digits(1, pool_size=100)
    fitting = create_digits_project(on.api, small, title="fitting", progress=say)
    on.backend.connect(fitting)
    wait_for_queue(on.api, fitting, timeout_s=600)
    # As long again as the window, for the wait before it.
    many = many_digits(int(2 * arguments.seconds * MOST_IMAGES_PER_S))
    embedding = create_digits_project(on.api, many, title="embedding", progress=say)
    on.backend.connect(embedding)
    stop = threading.Event()
    connection = on.api.request("GET", "/api/ml", query={"project": fitting}).json()[0]["id"]

    def keep_fitting() -> None:
        while not stop.is_set():
            on.api.request("POST", f"/api/ml/{connection}/train", body={})
            stop.wait(1.0)

    thread = threading.Thread(target=keep_fitting, daemon=True)
    thread.start()
    say("waiting until the worker both fits and embeds")
    deadline = time.monotonic() + WAIT_S
    with Watch(on.data_dir) as before:
        while not all(before.doing[action] for action in MUST_BE_SEEN):
            if time.monotonic() > deadline:
                raise SystemExit(f"not within {WAIT_S:.0f} s; seen were {dict(before.doing)}")
            time.sleep(0.1)
    created_at = on.api.request("GET", f"/api/projects/{embedding}").json()["created_at"]
    say(f"sending {arguments.rate:g} requests a second for {arguments.seconds:g} s")
    with Watch(on.data_dir) as watch:
        taken = send(
            on.backend.url,
            (on.backend.settings.user, on.backend.settings.password),
            recorded(embedding, created_at),
            seconds=arguments.seconds,
            rate=arguments.rate,
        )
    stop.set()
    thread.join()
    ratio = percentile(taken.everything, 0.99) / LIMIT_MS
    seen = all(watch.doing[action] for action in MUST_BE_SEEN)
    result: dict[str, object] = {
        "benchmark": "latency",
        "cores": os.cpu_count(),
        "requests": taken.sent,
        "errors": dict(taken.errors),
        "p99_ms": round(percentile(taken.everything, 0.99), 1),
        "ms": taken.told(),
        "worker_was_seen": dict(watch.doing),
        "worker_was_seen_in_fit_and_embed": seen,
        "limit_ms": LIMIT_MS,
        "ratio_to_limit": round(ratio, 3),
    }
    return result, ratio <= 1.0 and not taken.errors and seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0)
    arguments = parser.parse_args()
    environment = {"RAREFIRST_BACKBONE": "resnet18", "RAREFIRST_BOOTSTRAP_MIN_LABELS": "100000"}
    with stage(environment) as on:
        result, met = measure(on, arguments)
    conclude(result, met=met)


if __name__ == "__main__":
    main()
