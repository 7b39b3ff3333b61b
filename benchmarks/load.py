"""A large project: its first queue, the rounds after ten labels, latencies, memory.

Label Studio's API is replayed by a stand-in (benchmarks/stand_in), since a real one takes hours to
fill with 100,000 tasks; with --real it is a real one on SQLite, for 10,000 say. Web and worker are
real processes (`rarefirst serve`), the frozen model is the default (`cnn4`, 32 px pictures),
trained on the labels there are.

1. From connecting until the first queue is served, by action. It waits for 2,000 embedded pictures.
2. Ten labels, and the seconds until `next` serves a new order, while the rest is being embedded.
3. A window in which /health, /setup, /webhook and /predict arrive at a steady rate, at the same
   time, while labels come and the worker fits, publishes and embeds.
4. The rest of the pictures is embedded (at most --patience seconds are waited for that; with
   --prefill the rest is given features of embedded pictures of its class, with noise, while the
   service is stopped), then the same as in 2 with all that are embedded.
5. /predict of tasks that the loop never saw: the web process loads the model for them.

Memory of each process is sampled each second: at its peak, and steady, the median of twenty quiet
seconds at the end of 4; the web process once more after 5.

Prints JSON. `met`: nothing failed, no webhook of the stand-in was lost, and the slowest /health,
/setup and /webhook took less than the second after which Label Studio hangs up.

    .venv/bin/python -m benchmarks.load [--tasks 100000] [--real] [--seconds 60] [--rate 20]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from backend.projects import ProjectStores
from backend.reports import ProjectReport, RoundEntry
from benchmarks.latency import Watch
from benchmarks.processes import Memory, memory_of, processes_of
from benchmarks.reorder import new_orders, rounds_of
from benchmarks.stage import Stage, conclude, real_server, say, stage
from benchmarks.stand_in.pictures import Pictures
from benchmarks.traffic import Request, Taken, named, recorded, send
from demo.annotator import Annotator
from demo.label_studio_api import LabelStudioApi
from demo.label_studio_process import Login
from demo.project import LABEL_CONFIG, choice
from demo.queue_watch import ServedQueue, served_queue, wait_for_queue
from demo.service import Service, clean_environment

LABELED, IMPORT_STEP, UNSEEN = 500, 2_000, 20
HANG_UP_MS = 1000.0
HURRIED = ("/health", "/setup", "/webhook")
QUIET_S = 20.0
SETTLED_S = 45.0  # longer than fewer than ten labels wait for a fit


def stand_in_server(root: Path, port: int, login: Login, *, tasks: int) -> Service:
    """The stand-in, filled."""
    module = ["-m", "benchmarks.stand_in.server", str(port), str(tasks), str(LABELED)]
    return Service(
        "the stand-in",
        [sys.executable, *module],
        env=clean_environment({}),
        log_path=root / "run" / "stand-in.log",
        pid_path=root / "run" / "stand-in.pid",
    )


def name_of(task: int) -> str:
    """The file name by which the annotator knows a picture; see `demo.annotator.file_name`."""
    return f"{task:08d}.jpg"


def fill(on: Stage, tasks: int, *, real: bool) -> int:
    """A project of so many tasks, some of them labeled. Returns: its id."""
    if not real:
        return 1
    pictures = Pictures(tasks)
    folder = on.data_dir.parent / "pictures"
    folder.mkdir()
    for number in range(tasks):
        (folder / f"scan-{name_of(number + 1)}").write_bytes(pictures.jpeg(number))
    project = on.api.create_project(f"{tasks} tasks", LABEL_CONFIG)
    on.api.request(
        "POST",
        "/api/storages/localfiles",
        body={"project": project, "use_blob_urls": True, "title": "local", "path": str(folder)},
    )
    for start in range(0, tasks, IMPORT_STEP):
        some = [_task(i, pictures) for i in range(start, min(start + IMPORT_STEP, tasks))]
        on.api.request("POST", f"/api/projects/{project}/import", body=some)
        say(f"{start + len(some)} of {tasks} tasks imported")
    return project


def _task(number: int, pictures: Pictures) -> dict[str, object]:
    data = {"image": f"/data/local-files/?d=pictures/scan-{name_of(number + 1)}"}
    if number >= LABELED:
        return {"data": data}
    return {"data": data, "annotations": [{"result": [choice(pictures.classes[number])]}]}


@dataclass
class Sampler:
    """Memory of the service's processes, once a second.

    Attributes:
        peaks: the most that each ever had, MiB; ``series``: second by second.
    """

    on: Stage
    peaks: dict[str, float] = field(default_factory=dict)
    series: dict[str, list[Memory]] = field(default_factory=lambda: defaultdict(list))

    def __enter__(self) -> Sampler:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            for name, pid in processes_of(self.on.backend).items():
                found = memory_of(pid)
                if found is not None:
                    self.peaks[name] = max(self.peaks.get(name, 0.0), found.peak_mib)
                    self.series[name].append(found)

    def steady(self, seconds: float) -> dict[str, dict[str, float]]:
        """Medians of the last seconds."""
        count = max(1, int(seconds))
        return {
            name: {
                "rss_mib": round(statistics.median(m.rss_mib for m in known[-count:]), 1),
                "uss_mib": round(statistics.median(m.uss_mib for m in known[-count:]), 1),
                "handles": statistics.median(m.handles for m in known[-count:]),
            }
            for name, known in self.series.items()
            if not name.startswith("training")
        }


def report_of(on: Stage, url: str, project: int) -> ProjectReport | None:
    """What the loop's last look found."""
    store = ProjectStores(on.data_dir, url).find(project)
    return None if store is None else store.read("report.json", ProjectReport)


def by_action(entries: list[RoundEntry]) -> dict[str, float]:
    """Seconds of each action over some rounds, the median of those that had it."""
    found: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        for name, seconds in entry.seconds.items():
            found[name].append(seconds)
    return {name: round(statistics.median(values), 2) for name, values in sorted(found.items())}


def shared_out(watch: Watch, seconds: float) -> dict[str, float]:
    """Seconds of each action, by how often it was seen; a round's history comes at its end."""
    looks = sum(watch.doing.values())
    return {name: round(seconds * n / looks, 1) for name, n in watch.doing.most_common()}


def rounds(
    on: Stage, annotator: Annotator, queue: ServedQueue, batches: int
) -> tuple[dict[str, object], ServedQueue]:
    """Batches of ten labels and the time until a new order of each."""
    known = len(rounds_of(on.data_dir))
    seconds = new_orders(annotator, queue, batches=batches, timeout_s=600)
    time.sleep(2)
    entries = [e for e in rounds_of(on.data_dir)[known:] if "publish" in e.seconds]
    now = served_queue(on.api, annotator.project_id)
    assert now is not None
    result = {
        "median_s": round(statistics.median(seconds), 2),
        "max_s": round(max(seconds), 2),
        "all_s": [round(value, 2) for value in seconds],
        "by_action_s_median": by_action(entries),
    }
    return result, now


def settled(on: Stage, project: int) -> ServedQueue:
    """The order that is served once nothing more is published by itself."""
    version, since = "", time.monotonic()
    while time.monotonic() - since < SETTLED_S:
        now = on.api.model_version(project)
        if now != version:
            version, since = now, time.monotonic()
        time.sleep(1)
    queue = served_queue(on.api, project)
    assert queue is not None
    return queue


@contextmanager
def busy(on: Stage, project: int, truth: Mapping[str, str]) -> Iterator[None]:
    """Somebody labels without a pause, and Start training is pressed again and again."""
    stop = threading.Event()
    listed = on.api.request("GET", "/api/ml", query={"project": project}).json()
    path = f"/api/ml/{listed[0]['id']}/train"

    def label() -> None:
        api = LabelStudioApi(on.api.url, on.api.token)
        annotator = Annotator(api, project, truth)
        while not stop.wait(0.5):
            annotator.label(1)
        api.close()

    def press() -> None:
        api = LabelStudioApi(on.api.url, on.api.token)
        while not stop.wait(2.0):
            api.request("POST", path, body={})
        api.close()

    threads = [threading.Thread(target=work, daemon=True) for work in (label, press)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def questions(on: Stage, project: int, created_at: str, queue: ServedQueue) -> list[Request]:
    """What arrives in the window: the recorded requests, /predict of one and of fifty tasks."""
    some = [on.api.request("GET", f"/api/tasks/{i}").json() for i in queue.tasks[:50]]
    tasks = [{"id": task["id"], "data": task["data"]} for task in some]
    who = {"project": named(project, created_at), "label_config": LABEL_CONFIG}
    return [
        *recorded(project, created_at),
        Request("/predict, 1 task", "POST", "/predict", {**who, "tasks": tasks[:1]}),
        Request("/predict, 50 tasks", "POST", "/predict", {**who, "tasks": tasks}),
    ]


def unseen(on: Stage, project: int, created_at: str, tasks: int, image: str) -> Taken:
    """/predict of tasks that are in no mirror, one after the other."""
    who = {"project": named(project, created_at), "label_config": LABEL_CONFIG}
    kinds = [
        Request(
            "/predict, 1 unseen task",
            "POST",
            "/predict",
            {**who, "tasks": [{"id": tasks + 1000 + i, "data": {"image": image}}]},
        )
        for i in range(UNSEEN)
    ]
    auth = (on.backend.settings.user, on.backend.settings.password)
    return send(on.backend.url, auth, kinds, seconds=UNSEEN, rate=1)


def wait_until_embedded(
    on: Stage, project: int, tasks: int, patience_s: float
) -> tuple[int, float]:
    """Until every picture has features, or patience ends. Returns: how many have; seconds."""
    began = told = time.monotonic()
    while True:
        found = report_of(on, on.api.url, project)
        done = found.embedded if found is not None else 0
        waited = time.monotonic() - began
        if done >= tasks or waited > patience_s:
            return done, waited
        if time.monotonic() - told > 60:
            told = time.monotonic()
            say(f"{done} of {tasks} embedded")
        time.sleep(1)


def prefill(on: Stage, project: int, truth: Mapping[str, str]) -> int:
    """Give tasks without features those of embedded ones of their class. Returns: how many.

    What follows, fits and orders over the whole pool, costs the same with these as with real ones.
    """
    import numpy as np

    from backend.mirror import Mirror
    from backend.reconcile.state import BackboneState

    store = ProjectStores(on.data_dir, on.api.url).connected(project)
    state = store.read("backbone.json", BackboneState)
    assert state is not None
    mirror, rng = Mirror(store.path("mirror")), np.random.default_rng(0)
    tasks, known = mirror.tasks(), mirror.features(state.fingerprint)
    assert known is not None
    kinds = np.asarray([truth[name_of(int(i))] for i in tasks.ids])
    missing = np.setdiff1d(np.arange(len(tasks)), known.embedded(tasks))
    kind_of_known = np.asarray([truth[name_of(int(i))] for i in known.ids])
    for some in np.array_split(missing, max(1, len(missing) // 5000)):
        like = np.empty(len(some), dtype=np.int64)
        for kind in np.unique(kinds[some]):
            of = kinds[some] == kind
            pool = np.flatnonzero(kind_of_known == kind)
            like[of] = rng.choice(pool if len(pool) else len(known), int(of.sum()))
        vectors = known.vectors[like].astype(np.float32)
        mirror.add_features(
            state.fingerprint,
            ids=tasks.ids[some],
            digests=[str(digest) for digest in tasks.digests[some]],
            vectors=vectors + rng.normal(0, 0.05 * vectors.std(), vectors.shape),
            logits=None if known.logits is None else known.logits[like],
        )
    return len(missing)


def measure(on: Stage, arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    tasks, real = arguments.tasks, arguments.real
    project = fill(on, tasks, real=real)
    truth = {name_of(i + 1): kind for i, kind in enumerate(Pictures(tasks).classes)}
    with Sampler(on) as sampler:
        say("connecting")
        began = time.monotonic()
        with Watch(on.data_dir) as first_look:
            on.backend.connect(project)
            connected = time.monotonic() - began
            queue, waited = wait_for_queue(on.api, project, timeout_s=3600)
        first = connected + waited
        embedding_since = time.monotonic()
        before = report_of(on, on.api.url, project)
        say(f"first queue after {first:.1f} s")
        annotator = Annotator(on.api, project, truth)
        while_embedding, queue = rounds(on, annotator, queue, arguments.batches)
        created_at = on.api.request("GET", f"/api/projects/{project}").json()["created_at"]
        kinds = questions(on, project, created_at, queue)
        auth = (on.backend.settings.user, on.backend.settings.password)
        say(f"{arguments.rate:g} requests a second for {arguments.seconds:g} s")
        with Watch(on.data_dir) as watch, busy(on, project, truth):
            window = send(
                on.backend.url,
                auth,
                kinds,
                seconds=arguments.seconds,
                rate=arguments.rate,
                threads=32,
            )
        say("waiting for the rest of the pictures")
        embedded, _ = wait_until_embedded(on, project, tasks, arguments.patience)
        spent, filled = time.monotonic() - embedding_since, 0
        if arguments.prefill and embedded < tasks:
            on.backend.stop()
            filled = prefill(on, project, truth)
            say(f"{filled} pictures were given features")
            on.backend.start()
        whole, queue = rounds(on, annotator, settled(on, project), arguments.batches)
        time.sleep(2 * QUIET_S)
        steady = sampler.steady(QUIET_S)
        image = str(on.api.request("GET", f"/api/tasks/{tasks}").json()["data"]["image"])
        stranger = unseen(on, project, created_at, tasks, image)
        time.sleep(QUIET_S)
        after = sampler.steady(QUIET_S / 2)["web"]
    webhooks = None if real else on.api.request("GET", "/stand-in/events").json()
    slowest = max(max(window.ms.get(path, [HANG_UP_MS])) for path in HURRIED)
    ratio = slowest / HANG_UP_MS
    result: dict[str, object] = {
        "benchmark": "load",
        "label_studio": "1.23.2, SQLite" if real else "stand-in",
        "tasks": tasks,
        "labeled_at_first": LABELED,
        "cores": os.cpu_count(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "first_queue_s": round(first, 1),
        "first_queue_by_action_s": shared_out(first_look, waited),
        "round_after_ten_labels": {
            "while_embedding": while_embedding,
            "in_the_end": whole,
        },
        "embedding": {
            "embedded_by_the_service": embedded,
            "prefilled": filled,
            "a_second_beside_all_this": round(
                (embedded - (before.embedded if before else 0)) / spent, 1
            ),
        },
        "window": {
            "seconds": arguments.seconds,
            "requests": window.sent,
            "errors": dict(window.errors),
            "ms": window.told(),
            "worker_was_seen": dict(watch.doing),
        },
        "unseen": {"errors": dict(stranger.errors), "ms": stranger.told()},
        "webhooks": webhooks,
        "memory_peak_mib": {name: round(peak, 1) for name, peak in sampler.peaks.items()},
        "memory_steady": steady,
        "memory_web_after_unseen": after,
        "labels_in_the_end": told.labeled if (told := report_of(on, on.api.url, project)) else None,
        "hang_up_ms": HANG_UP_MS,
        "slowest_of_health_setup_webhook_ms": round(slowest, 1),
        "ratio_to_limit": round(ratio, 3),
    }
    lost = sum(webhooks["lost"].values()) if webhooks else 0
    return result, ratio <= 1.0 and not window.errors and not stranger.errors and not lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--real", action="store_true", help="A real Label Studio on SQLite.")
    parser.add_argument("--batches", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--patience", type=float, default=1800.0)
    parser.add_argument("--prefill", action="store_true", help="Do not embed what is left.")
    arguments = parser.parse_args()
    server = real_server if arguments.real else partial(stand_in_server, tasks=arguments.tasks)
    with stage({"RAREFIRST_DEBOUNCE_S": "1"}, make_server=server) as on:
        result, met = measure(on, arguments)
    conclude(result, met=met)


if __name__ == "__main__":
    main()
