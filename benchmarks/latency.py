"""/health, /setup and /webhook at 20 requests a second while the worker fits and embeds.

Label Studio waits one second for /health and hangs up on a webhook after one, so they must answer
whatever else goes on. Two projects on a real Label Studio: in one the worker embeds 1,600 images
with ResNet-18 at 224 px (minutes on two cores), in the other it is made to fit again and again
(Start training). Prints JSON: latencies in milliseconds, errors, and what the worker did meanwhile.

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
from pathlib import Path

import requests

from backend.projects import ProgressNote
from benchmarks.stage import Stage, say, stage
from demo.digits import choose_digits
from demo.project import create_digits_project
from demo.queue_watch import wait_for_queue

LIMIT_MS = 100.0
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
    event["project"]["id"] = project
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


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(on: Stage, arguments: argparse.Namespace) -> dict[str, object]:
    small = choose_digits(1, pool_size=100)
    fitting = create_digits_project(on.api, small, title="fitting", progress=say)
    on.backend.connect(fitting)
    wait_for_queue(on.api, fitting, timeout_s=600)
    embedding = create_digits_project(on.api, choose_digits(0), title="embedding", progress=say)
    on.backend.connect(embedding)
    stop = threading.Event()
    connection = on.api.request("GET", "/api/ml", query={"project": fitting}).json()[0]["id"]

    def keep_fitting() -> None:
        while not stop.is_set():
            on.api.request("POST", f"/api/ml/{connection}/train", body={})
            stop.wait(1.0)

    thread = threading.Thread(target=keep_fitting, daemon=True)
    thread.start()
    say("waiting until the worker embeds")
    with Watch(on.data_dir) as before:
        while not before.doing["embed"]:
            time.sleep(0.1)
    say(f"sending {arguments.rate:g} requests a second for {arguments.seconds:g} s")
    with Watch(on.data_dir) as watch:
        taken = send(on, arguments.seconds, arguments.rate, fitting)
    stop.set()
    thread.join()
    good = {path: [v for v in values if v is not None] for path, values in taken.items()}
    everything = [value for values in good.values() for value in values]
    return {
        "benchmark": "latency",
        "cores": os.cpu_count(),
        "requests": sum(map(len, taken.values())),
        "errors": sum(value is None for values in taken.values() for value in values),
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
        "limit_ms": LIMIT_MS,
        "ratio_to_limit": round(percentile(everything, 0.99) / LIMIT_MS, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0)
    arguments = parser.parse_args()
    environment = {"RAREFIRST_BACKBONE": "resnet18", "RAREFIRST_BOOTSTRAP_MIN_LABELS": "100000"}
    with stage(environment) as on:
        print(json.dumps(measure(on, arguments), indent=1))


if __name__ == "__main__":
    main()
