"""Our own app against the real label-studio-ml 2.x: every recorded request, and odd ones.

    python -m tests.contract.compare_with_official [--json] [--gunicorn]

Needs the package (`backend.labelstudio.ml_base` says how to get it). Three comparisons: the
official server under our ``_wsgi.py``, under one that ``label-studio-ml create`` writes, and the
stand-in of the tests with the real package. ``--gunicorn`` does the first two over HTTP with
gunicorn in front of both sides. Exits with 1 where an answer differs that we say is the same, or
the other way round.
"""

# ruff: noqa: T201 -- a command: what it prints is its result

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

from backend.labelstudio import __file__ as labelstudio
from tests.contract import label_studio_ml_stand_in
from tests.contract.cases import Case, Entry, odd, recorded
from tests.contract.comparison import (
    Answer,
    Compared,
    Send,
    Side,
    compare,
    compare_in_process,
    environment,
    in_process,
    official_app,
    prepare,
)

ENTRIES: Mapping[Entry, str] = {"ours": "our _wsgi.py", "theirs": "their _wsgi.py"}
_PATIENCE_S = 60.0
_MODEL = Path(labelstudio).with_name("ml_base.py")
_TRACEBACK = re.compile(rb'"traceback":"(?:[^"\\]|\\.)*"')


def package() -> str:
    """Version and, where pip knows it, commit of the package."""
    found = metadata.distribution("label-studio-ml")
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"label-studio-ml {found.version}" + (f" at {commit}" if commit else "")


def summary(found: Sequence[Compared], *, reason: Callable[[Case], str]) -> dict[str, object]:
    """Counts, what differs and why, and what we said wrongly."""
    differing = [one for one in found if not one.equal]
    names = {case.name for case in recorded()}
    return {
        "requests": len(found),
        "equal": len(found) - len(differing),
        "recorded": sum(one.case.name in names for one in found),
        "recorded_equal": sum(one.equal and one.case.name in names for one in found),
        "differ": [
            {
                "request": one.case.name,
                "own": one.own.status,
                "official": one.official.status,
                "why": reason(one.case) or "?",
            }
            for one in differing
        ],
        "said_wrongly": [one.case.name for one in found if one.equal == bool(reason(one.case))],
    }


# In this process ----------------------------------------------------------------------------------


def in_this_process(folder: Path, entry: Entry) -> list[Compared]:
    """Own app and official app, both called directly."""
    return compare_in_process(prepare(folder), entry, [*recorded(), *odd()])


def stand_in_and_real(folder: Path, entry: Entry) -> list[Compared]:
    """The same requests to the stand-in and to the package, tracebacks aside."""
    one, other = prepare(folder)
    modules = label_studio_ml_stand_in.modules()
    cases = [*recorded(), *odd()]
    with official_app(one, entry, stand_in=modules) as app:
        side = Side(one, _without_traceback(in_process(app)))
        stood_in = [(case, *side.answer(case)) for case in cases]
    with official_app(other, entry) as app:
        side = Side(other, _without_traceback(in_process(app)))
        return [
            Compared(case, answer, real, left, really_left)
            for case, answer, left in stood_in
            for real, really_left in [side.answer(case)]
        ]


def _without_traceback(send: Send) -> Send:
    def bare(case: Case) -> Answer:
        answer = send(case)
        body = _TRACEBACK.sub(b'"traceback":""', answer.body)
        kept = {name: text for name, text in answer.headers.items() if name != "Content-Length"}
        return replace(answer, headers=kept, body=body)

    return bare


# Over HTTP ----------------------------------------------------------------------------------------


def over_http(folder: Path, entry: Entry) -> list[Compared]:
    """Both behind gunicorn: ours as `rarefirst web` starts it, theirs as its Dockerfile does."""
    own, official = prepare(folder)
    ours = ("-c", "python:backend.gunicorn_conf")
    if entry == "ours":
        theirs: tuple[str, ...] = (*ours, "backend.labelstudio._wsgi:app")
    else:
        made = folder / "made"
        create = ("create", str(made), "--script", f"{_MODEL}:RareFirst")
        command = (sys.executable, "-m", "label_studio_ml.server", *create)
        subprocess.run(command, check=True, capture_output=True, env=_env(official))
        theirs = ("--preload", "--workers", "1", "--threads", "8", "--timeout", "0")
        theirs = (*theirs, "--no-control-socket", "--chdir", str(made), "_wsgi:app")
    with (
        gunicorn(own, (*ours, "backend.wsgi:app")) as send,
        gunicorn(official, theirs) as official_send,
    ):
        return list(compare(Side(own, send), Side(official, official_send), [*recorded(), *odd()]))


def _env(data_dir: Path, port: int = 0) -> dict[str, str]:
    path = os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **environment(data_dir), "PORT": str(port), "PYTHONPATH": path}


@contextmanager
def gunicorn(data_dir: Path, arguments: Sequence[str]) -> Iterator[Send]:
    """A server over a data directory, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = (sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", *arguments)
    log = (data_dir.parent / f"{data_dir.name}.log").open("wb")
    with log, subprocess.Popen(command, env=_env(data_dir, port), stdout=log, stderr=log) as server:
        try:
            _wait_for(port, server, Path(log.name))
            yield lambda case: _request(port, case)
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            _request(port, Case("is it up", "/health", method="GET", headers={}))
            return
        time.sleep(0.2)
    raise SystemExit(f"the server does not answer; it said:\n{log.read_text()}")


def _request(port: int, case: Case) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        connection.request(case.method, case.path, case.body or None, dict(case.headers))
        answer = connection.getresponse()
        return Answer.of(answer.status, dict(answer.getheaders()), answer.read())


# --------------------------------------------------------------------------------------------------


def run(*, over_gunicorn: bool) -> dict[str, object]:
    """Every comparison."""
    report: dict[str, object] = {"package": package()}
    for entry, title in ENTRIES.items():
        reason = partial(Case.why_under, entry=entry)
        with tempfile.TemporaryDirectory() as folder, _quiet():
            way = over_http if over_gunicorn else in_this_process
            report[title] = summary(way(Path(folder), entry), reason=reason)
        if not over_gunicorn:
            with tempfile.TemporaryDirectory() as folder, _quiet():
                found = stand_in_and_real(Path(folder), entry)
            report[f"{title}, stand-in and package"] = summary(found, reason=lambda case: "")
    return report


@contextmanager
def _quiet() -> Iterator[None]:
    """The package prints each traceback."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def main() -> int:
    """Print the figures, or all of them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--gunicorn", action="store_true", help="over HTTP, with gunicorn")
    flags = parser.parse_args()
    logging.disable(logging.CRITICAL)
    report = run(over_gunicorn=flags.gunicorn)
    wrong = [
        name for part in report.values() if isinstance(part, dict) for name in part["said_wrongly"]
    ]
    if flags.json:
        print(json.dumps(report, indent=1))
        return 1 if wrong else 0
    print(report["package"])
    for title, part in report.items():
        if isinstance(part, dict):
            print(
                f"{title}: {part['equal']} of {part['requests']} equal, of the recorded "
                f"{part['recorded_equal']} of {part['recorded']}"
            )
            for one in part["differ"]:
                print(f"  {one['request']}: {one['own']}, {one['official']}: {one['why']}")
    if wrong:
        print("not as we say:", ", ".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
