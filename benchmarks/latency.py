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
import json
import os
import statistics
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import requests

from backend.projects import ProgressNote
from benchmarks.stage import Stage, conclude, say, stage
from demo.digits import DigitSet, choose_digits
from demo.project import create_digits_project
from demo.queue_watch import wait_for_queue

LIMIT_MS = 100.0
WAIT_S = 120.0
MUST_BE_SEEN = ("fit", "embed")
# More than two cores embed at 224 px, so that the work outlasts the window.
MOST_IMAGES_PER_S = 60
PAYLOADS = Path(__file__).resolve().parent.parent / "tests/contract/payloads/1.23.2"


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


def send(on: Stage, seconds: float, rate: float, project: int) -> dict[str, list[float | None]]:
    """Send the three requests in turn at a fixed rate; milliseconds each, None for an error."""
    auth = (on.backend.settings.user, on.backend.settings.password)
    setup = json.loads((PAYLOADS / "setup.json").read_text())
    event = json.loads((PAYLOADS / "webhook_ANNOTATION_CREATED.json").read_text())
    told = on.api.request("GET", f"/api/projects/{project}").json()
    event["project"].update(id=project, created_at=told["created_at"])
    created_s = int(datetime.fromisoformat(told["created_at"]).timestamp())
    setup["project"] = f"{project}.{created_s}"
    kinds = (("GET", "/health", None), ("POST", "/setup", setup), ("POST", "/webhook", event))
    taken: dict[str, list[float | None]] = defaultdict(list)
    lock = threading.Lock()
    sessions = threading.local()

    def one(number: int) -> None:
        method, path, body = kinds[number % len(kinds)]
        if not hasattr(sessions, "session"):
            sessions.session = requests.Session()
        began = time.perf_counter()
        try:
            answer = sessions.session.request(
                method, on.backend.url + path, json=body, auth=auth, timeout=10
            )
            value = (time.perf_counter() - began) * 1000 if answer.ok else None
        except requests.RequestException:
            value = None
        with lock:
            taken[path].append(value)

    total = int(seconds * rate)
    with ThreadPoolExecutor(16) as pool:
        start = time.perf_counter()
        for number in range(total):
            wait = start + number / rate - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            pool.submit(one, number)
    return taken


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


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


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
    say(f"sending {arguments.rate:g} requests a second for {arguments.seconds:g} s")
    with Watch(on.data_dir) as watch:
        taken = send(on, arguments.seconds, arguments.rate, embedding)
    stop.set()
    thread.join()
    good = {path: [v for v in values if v is not None] for path, values in taken.items()}
    everything = [value for values in good.values() for value in values]
    errors = sum(value is None for values in taken.values() for value in values)
    ratio = percentile(everything, 0.99) / LIMIT_MS
    seen = all(watch.doing[action] for action in MUST_BE_SEEN)
    result: dict[str, object] = {
        "benchmark": "latency",
        "cores": os.cpu_count(),
        "requests": sum(map(len, taken.values())),
        "errors": errors,
        "p99_ms": round(percentile(everything, 0.99), 1),
        "ms": {
            path: {
                "median": round(statistics.median(values), 1),
                "p99": round(percentile(values, 0.99), 1),
                "max": round(max(values), 1),
            }
            for path, values in good.items()
        },
        "worker_was_seen": dict(watch.doing),
        "worker_was_seen_in_fit_and_embed": seen,
        "limit_ms": LIMIT_MS,
        "ratio_to_limit": round(ratio, 3),
    }
    return result, ratio <= 1.0 and not errors and seen


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
