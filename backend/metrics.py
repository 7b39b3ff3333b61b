"""Prometheus metrics: what this process answered, and what the stores say at scrape time.

Gauges are read from the files of the loop when they are asked for, so that they are right in
every process and cost nothing in between. With several web processes (WORKERS above 1) the
request counts are those of the process that answers the scrape.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backend.heartbeat import heartbeat_age_s
from backend.projects import ProjectStores
from backend.reports import ProjectReport
from backend.settings import Settings

# From "answered at once" to the longest /predict that Label Studio waits for.
_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0)


class LineCounter:
    """Counts the lines of files that only grow; what was counted once is not read again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # path -> (inode, bytes read, lines in them)
        self._counted: dict[Path, tuple[int, int, int]] = {}

    def count(self, path: Path) -> int:
        """Complete lines of a file, 0 where it is absent; a file that was replaced is read anew."""
        with self._lock:
            try:
                with path.open("rb") as file:
                    found = os.fstat(file.fileno())
                    inode, read, lines = self._counted.get(path, (found.st_ino, 0, 0))
                    if inode != found.st_ino or found.st_size < read:
                        read = lines = 0
                    file.seek(read)
                    new = file.read()
            except FileNotFoundError:
                self._counted.pop(path, None)
                return 0
            lines += new.count(b"\n")
            self._counted[path] = (found.st_ino, read + len(new), lines)
            return lines


class StoresCollector(Collector):
    """Gauges of every project, read when asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stores = ProjectStores(settings.data_dir, settings.label_studio_url)
        self._lines = LineCounter()

    def describe(self) -> Iterator[Metric]:
        """Nothing ahead of time: reading files at registration would be for nothing."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges of now."""
        labels = _gauge("labels", "Labels of a class in the mirror.", "class")
        origins = _gauge("labels_by_origin", "Labels by how their task was chosen.", "origin")
        tasks = _gauge("tasks", "Mirrored tasks.")
        embedded = _gauge("embedded", "Tasks with features.")
        failed = _gauge("images_failed", "Images that could not be read.")
        left = _gauge("queue_left", "Published tasks that are still unlabeled.")
        age = _gauge("publication_age_seconds", "Seconds since the queue was published.")
        rounds = _gauge("rounds", "Lines in the project's history of rounds.")
        for store in self._stores.all():
            card = store.card
            if card is None:
                continue
            project = str(card.project_id)
            report = store.read("report.json", ProjectReport)
            if report is not None:
                for name, count in report.labels_by_class.items():
                    labels.add_metric([project, name], count)
                for name, count in report.labels_by_origin.items():
                    origins.add_metric([project, name], count)
                tasks.add_metric([project], report.tasks)
                embedded.add_metric([project], report.embedded)
                failed.add_metric([project], sum(report.failed.values()))
                left.add_metric([project], report.queue_left)
            published = store.publications().published
            if published is not None and published.published_at is not None:
                age.add_metric([project], time.time() - published.published_at.timestamp())
            rounds.add_metric([project], self._lines.count(store.path("history.jsonl")))
        yield from (labels, origins, tasks, embedded, failed, left, age, rounds)
        heartbeat = heartbeat_age_s(self._settings.data_dir)
        if heartbeat is not None:
            yield GaugeMetricFamily(
                "rarefirst_worker_heartbeat_age_seconds",
                "Seconds since the worker last said that it is alive.",
                value=heartbeat,
            )


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"rarefirst_{name}", text, labels=["project", *labels])


class Metrics:
    """Counts and times of the requests of one app."""

    def __init__(self, settings: Settings) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "rarefirst_requests",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "rarefirst_request_seconds",
            "Seconds from request to answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(StoresCollector(settings))

    def watch(self, app: Flask) -> None:
        """Count and time every request of the app."""

        @app.before_request
        def begin() -> None:
            g.began = time.perf_counter()

        @app.after_request
        def end(response: Response) -> Response:
            # The rule, not the path: one time series a route, whatever is asked for.
            route = request.url_rule.rule if request.url_rule is not None else "unknown"
            self._requests.labels(route, request.method, str(response.status_code)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - g.began)
            return response

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)
