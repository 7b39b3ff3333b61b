"""Requests to the running service at a steady rate, and how long each took."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import requests

PAYLOADS = Path(__file__).resolve().parent.parent / "tests" / "contract" / "payloads" / "1.23.2"
_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Request:
    """One kind of request.

    Attributes:
        name: under which its times are kept.
        method, path, body, headers: of the request; ``body`` is sent as JSON unless None.
    """

    name: str
    method: str
    path: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Taken:
    """What came of the requests.

    Attributes:
        ms: milliseconds of each that was answered with 2xx, by name.
        errors: what the others were answered, or what broke, by name and kind.
    """

    ms: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def everything(self) -> list[float]:
        """All times."""
        return [value for values in self.ms.values() for value in values]

    @property
    def sent(self) -> int:
        """How many requests there were."""
        return len(self.everything) + sum(self.errors.values())

    def told(self) -> dict[str, dict[str, float | int]]:
        """Median, p99 and the slowest, by name."""
        return {
            name: {
                "requests": len(values),
                "median": round(statistics.median(values), 1),
                "p99": round(percentile(values, 0.99), 1),
                "max": round(max(values), 1),
            }
            for name, values in sorted(self.ms.items())
            if values
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def recorded(project: int, created_at: str) -> list[Request]:
    """/health, /setup and /webhook as Label Studio sends them, of one project.

    Args:
        project: its id.
        created_at: when it was made, as Label Studio's API says it.
    """
    setup = json.loads((PAYLOADS / "setup.json").read_text())
    event = json.loads((PAYLOADS / "webhook_ANNOTATION_CREATED.json").read_text())
    event["project"].update(id=project, created_at=created_at)
    setup["project"] = named(project, created_at)
    return [
        Request("/health", "GET", "/health"),
        Request("/setup", "POST", "/setup", setup),
        Request("/webhook", "POST", "/webhook", event),
    ]


def named(project: int, created_at: str) -> str:
    """A project as /setup and /predict name it."""
    return f"{project}.{int(datetime.fromisoformat(created_at).timestamp())}"


def send(
    url: str,
    auth: tuple[str, str],
    kinds: Sequence[Request],
    *,
    seconds: float,
    rate: float,
    threads: int = 16,
    stop: threading.Event | None = None,
) -> Taken:
    """Send the requests in turn, ``rate`` a second, whether the ones before were answered or not.

    Args:
        url: the service's address.
        auth: user and password.
        kinds: what is sent.
        seconds: how long.
        rate: requests a second.
        threads: requests that may be on their way at the same time.
        stop: ends it earlier.
    """
    taken, ended = Taken(), stop or threading.Event()
    lock, sessions = threading.Lock(), threading.local()

    def one(kind: Request, due: float) -> None:
        if not hasattr(sessions, "session"):
            sessions.session = requests.Session()
        try:
            answer = sessions.session.request(
                kind.method,
                url + kind.path,
                json=kind.body,
                headers=dict(kind.headers),
                auth=auth,
                timeout=_TIMEOUT_S,
            )
            error = "" if answer.ok else str(answer.status_code)
        except requests.RequestException as failed:
            error = type(failed).__name__
        # Counted from when it was due: one that waits for a free thread of ours waits too.
        ms = (time.perf_counter() - due) * 1000
        with lock:
            if error:
                taken.errors[f"{kind.name}: {error}"] += 1
            else:
                taken.ms.setdefault(kind.name, []).append(ms)

    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for number in range(int(seconds * rate)):
            due = start + number / rate
            wait = due - time.perf_counter()
            if wait > 0 and ended.wait(wait):
                break
            pool.submit(one, kinds[number % len(kinds)], due)
    return taken
