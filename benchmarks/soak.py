"""Half an hour with labels arriving steadily: does memory grow, do open files, do files on disk?

A real Label Studio (SQLite) with a project of digits and `rarefirst serve` beside it. An annotator
labels what the label stream serves, one task every few seconds; meanwhile Label Studio's own
requests and a person's looks at the dashboard reach the web process. Everything that the service
does on a timer comes three times as often as by default, so that half an hour holds more of it.
Resident memory (RSS, also USS and PSS), open file handles, and bytes and files of the data
directory are sampled. Slopes are fitted over the last two thirds of the time, since a service fills
its caches at first (benchmarks/slope.py).

Memory is flat where, of web process and worker, the upper end of the slope's 95 % interval, over
the time fitted, is less than 5 % of the mean of resident memory: both of resident memory itself,
and of the part of it that belongs to no file, since pages of libraries come and go with what else
the machine does. File handles are flat where it is less than two.
Prints JSON; the exit status is 1 where one of them grows. With --samples FILE every sample is kept.

With --stand-in the stand-in takes Label Studio's place, for a machine that has no room for both.

    .venv/bin/python -m benchmarks.soak [--minutes 30] [--every 2.5] [--samples FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.load import name_of, stand_in_server
from benchmarks.processes import Memory, files_below, memory_of, processes_of
from benchmarks.reorder import digits, rounds_of
from benchmarks.slope import Slope, slope
from benchmarks.stage import Stage, conclude, real_server, say, stage
from benchmarks.stand_in.pictures import Pictures
from benchmarks.traffic import Request, Taken, named, recorded, send
from demo.annotator import Annotator
from demo.project import create_digits_project
from demo.queue_watch import wait_for_queue

SAMPLE_S, TOLD_S = 5.0, 120.0
GROWTH, HANDLES = 0.05, 2.0
JUDGED = ("web", "worker")
EXTRA = {
    "RAREFIRST_TIMER_S": "10",
    "RAREFIRST_DISCOVER_S": "100",
    "RAREFIRST_CHECK_IDS_S": "200",
    "RAREFIRST_DEBOUNCE_S": "0.5",
}
BROWSER = {"Accept": "text/html"}


@dataclass
class Samples:
    """What was seen, sample by sample.

    Attributes:
        at_s: seconds since the beginning.
        memory: by process; of some the list is shorter, since they were not there.
        files: bytes and number of the data directory's files by kind.
        labels: given so far.
    """

    at_s: list[float] = field(default_factory=list)
    memory: list[dict[str, Memory]] = field(default_factory=list)
    files: list[dict[str, tuple[int, int]]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)

    def fitted(
        self, name: str, figure: Callable[[Memory], float], *, since_s: float
    ) -> Slope | None:
        """The slope of a figure of a process from some time on; None where it was hardly there."""
        there = [
            (at, figure(memory[name]))
            for at, memory in zip(self.at_s, self.memory, strict=True)
            if at >= since_s and name in memory
        ]
        return _slope([at for at, _ in there], [value for _, value in there])

    def fitted_files(self, kind: str, which: int, *, since_s: float) -> Slope | None:
        """The slope of bytes (0) or number (1) of a kind of file; of all files with ``""``."""
        there = [
            (at, sum(v[which] for k, v in files.items() if kind in ("", k)))
            for at, files in zip(self.at_s, self.files, strict=True)
            if at >= since_s
        ]
        return _slope([at for at, _ in there], [float(value) for _, value in there])


def _slope(times: list[float], values: list[float]) -> Slope | None:
    try:
        return slope(times, values)
    except ValueError:
        return None


def traffic(project: int, created_at: str, task: dict[str, object]) -> list[Request]:
    """What reaches the web process: Label Studio's requests, and a person who looks."""
    page = f"/project/{project}"
    predict = {"tasks": [task], "project": named(project, created_at), "label_config": ""}
    return [
        *recorded(project, created_at),
        Request("/predict", "POST", "/predict", predict),
        *(
            Request(path.replace(page, "/project"), "GET", path, headers=BROWSER)
            for path in ("/", page, f"{page}/now", f"{page}/queue", f"{page}/review")
        ),
        Request("/project/picture", "GET", f"{page}/picture/{task['id']}"),
        Request("/metrics", "GET", "/metrics"),
    ]


def watch(on: Stage, minutes: float, given: list[int], stop: threading.Event) -> Samples:
    """Sample until the time is over."""
    found = Samples()
    began = told = time.monotonic()
    while (at := time.monotonic() - began) < minutes * 60 and not stop.is_set():
        found.at_s.append(at)
        found.memory.append(
            {
                name: memory
                for name, pid in processes_of(on.backend).items()
                if (memory := memory_of(pid)) is not None
            }
        )
        found.files.append(files_below(on.data_dir))
        found.labels.append(given[0])
        if time.monotonic() - told >= TOLD_S:
            told = time.monotonic()
            parts = [f"{name} {m.rss_mib:.0f} MiB" for name, m in found.memory[-1].items()]
            say(f"{at / 60:.0f} min, {given[0]} labels: {', '.join(parts)}")
        stop.wait(max(0.0, SAMPLE_S - (time.monotonic() - began - at)))
    return found


def measure(on: Stage, arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    if arguments.stand_in:
        project, kinds_of = 1, Pictures(arguments.tasks).classes
        truth = {name_of(i + 1): kind for i, kind in enumerate(kinds_of)}
    else:
        chosen = digits(arguments.tasks)
        truth = chosen.truth
        project = create_digits_project(on.api, chosen, title="soak", progress=say)
    on.backend.connect(project)
    queue, waited = wait_for_queue(on.api, project, timeout_s=600)
    say(f"first queue after {waited:.0f} s; {arguments.minutes:g} minutes begin")
    created_at = on.api.request("GET", f"/api/projects/{project}").json()["created_at"]
    task = on.api.request("GET", f"/api/tasks/{queue.tasks[0]}").json()
    kinds = traffic(project, created_at, {"id": task["id"], "data": task["data"]})
    auth = (on.backend.settings.user, on.backend.settings.password)
    stop, given, seconds = threading.Event(), [0], arguments.minutes * 60
    sent: list[Taken] = []

    def ask() -> None:
        url = on.backend.url
        sent.append(send(url, auth, kinds, seconds=seconds, rate=2, threads=4, stop=stop))

    failed: list[BaseException] = []

    def label() -> None:
        annotator = Annotator(on.api, project, truth)
        try:
            while not stop.wait(arguments.every):
                given[0] += len(annotator.label(1))
        except BaseException as error:  # the main thread is to know of it, whatever it is
            failed.append(error)
            stop.set()

    threads = [threading.Thread(target=work, daemon=True) for work in (ask, label)]
    for thread in threads:
        thread.start()
    found = watch(on, arguments.minutes, given, stop)
    stop.set()
    for thread in threads:
        thread.join(130)
    if failed:
        raise failed[0]
    if arguments.samples:
        arguments.samples.write_text(json.dumps(asdict(found)))
    return summed_up(on, arguments, found, sent[0])


def summed_up(
    on: Stage, arguments: argparse.Namespace, found: Samples, sent: Taken
) -> tuple[dict[str, object], bool]:
    """The result, and whether everything that must be flat is."""
    since = found.at_s[-1] / 3
    fitted_h = (found.at_s[-1] - since) / 3600
    names = sorted({name for memory in found.memory for name in memory})
    shares: dict[str, float] = {}
    processes: dict[str, object] = {}
    for name in names:
        known = [memory[name] for memory in found.memory if name in memory]
        rss = found.fitted(name, lambda memory: memory.rss_mib, since_s=since)
        if rss is None or name.startswith("training"):
            processes[name] = {"peak_mib": round(max(m.peak_mib for m in known), 1)}
            continue
        figures: dict[str, Callable[[Memory], float]] = {
            "rss_mib": lambda memory: memory.rss_mib,
            "uss_mib": lambda memory: memory.uss_mib,
            "pss_mib": lambda memory: memory.pss_mib,
            "heap_mib": lambda memory: memory.heap_mib,
            "handles": lambda memory: float(memory.handles),
            "threads": lambda memory: float(memory.threads),
        }
        slopes = {
            figure: fitted.told()
            for figure, take in figures.items()
            if (fitted := found.fitted(name, take, since_s=since)) is not None
        }
        processes[name] = {**slopes, "peak_mib": round(max(m.peak_mib for m in known), 1)}
        if name in JUDGED:
            shares[f"{name}: resident"] = rss.high * fitted_h / rss.mean / GROWTH
            heap = found.fitted(name, lambda memory: memory.heap_mib, since_s=since)
            if heap is not None:
                shares[f"{name}: heap"] = heap.high * fitted_h / rss.mean / GROWTH
            handles = found.fitted(name, lambda memory: float(memory.handles), since_s=since)
            if handles is not None:
                shares[f"{name}: handles"] = handles.high * fitted_h / HANDLES
    kinds = sorted({kind for files in found.files for kind in files})
    labels = found.labels[-1] - found.labels[int(len(found.labels) / 3)]
    published = [entry for entry in rounds_of(on.data_dir) if "publish" in entry.seconds]
    result: dict[str, object] = {
        "benchmark": "soak",
        "label_studio": "stand-in" if arguments.stand_in else "1.23.2, SQLite",
        "minutes": arguments.minutes,
        "tasks": arguments.tasks,
        "cores": os.cpu_count(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "labels": found.labels[-1],
        "publications": len(published),
        "samples": len(found.at_s),
        "fitted_minutes": round(fitted_h * 60, 1),
        "processes": processes,
        "files": {
            kind: {
                "bytes": found.files[-1].get(kind, (0, 0))[0],
                "files": found.files[-1].get(kind, (0, 0))[1],
                "bytes_a_label": _a_label(found, kind, 0, since, labels),
                "files_an_hour": _an_hour(found, kind, 1, since),
            }
            for kind in ("", *kinds)
        },
        "requests": {"sent": sent.sent, "errors": dict(sent.errors), "ms": sent.told()},
        "limits": {"memory_share_of_mean": GROWTH, "handles": HANDLES},
        "ratio_to_limit": {name: round(share, 3) for name, share in shares.items()},
    }
    whole = len(shares) == 3 * len(JUDGED)
    return result, whole and max(shares.values()) <= 1.0 and not sent.errors


def _a_label(found: Samples, kind: str, which: int, since: float, labels: int) -> float | None:
    fitted = found.fitted_files(kind, which, since_s=since)
    hours = (found.at_s[-1] - since) / 3600
    return None if fitted is None or not labels else round(fitted.per_hour * hours / labels, 1)


def _an_hour(found: Samples, kind: str, which: int, since: float) -> float | None:
    fitted = found.fitted_files(kind, which, since_s=since)
    return None if fitted is None else round(fitted.per_hour, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=2.5, help="Seconds between two labels.")
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--samples", type=Path, help="Keep every sample here, as JSON.")
    parser.add_argument("--stand-in", action="store_true")
    arguments = parser.parse_args()
    server = partial(stand_in_server, tasks=arguments.tasks) if arguments.stand_in else real_server
    with stage(EXTRA, make_server=server) as on:
        result, met = measure(on, arguments)
    conclude(result, met=met)


if __name__ == "__main__":
    main()
