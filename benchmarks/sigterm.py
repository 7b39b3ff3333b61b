"""SIGTERM at seeded random moments: seconds until the process is gone, its exit code, what is left.

The worker (and, one time in four, `rarefirst serve` with web and worker) runs on a project in the
stand-in for Label Studio. Moment by moment an action is drawn (sync, bootstrap, embed, fit,
publish, cleanup, or the child process of a fine-tune), the project is given what makes it due, and
SIGTERM is sent a random part of a second after the worker says that it is at it. Then, without
anything running: the exit code, children left behind, and whether all that is on disk is whole
(benchmarks/wholeness.py). After the last moment the service runs undisturbed, and its queue must be
served, with every label.

Prints JSON with a histogram. `met`: every exit came within ten seconds with code 0, and everything
was whole.

    .venv/bin/python -m benchmarks.sigterm [--moments 40] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from backend.projects import ProgressNote
from backend.settings import Settings
from benchmarks.load import name_of, stand_in_server
from benchmarks.processes import children_of
from benchmarks.stage import Stage, conclude, say, stage
from benchmarks.stand_in.pictures import Pictures
from benchmarks.wholeness import faults
from demo.annotator import Annotator
from demo.backend_process import COMMAND, Backend
from demo.queue_watch import wait_for_queue

LIMIT_S = 10.0
TASKS = 1_500
FINETUNE, FIRST = "fine-tune", "bootstrap"
#: Seconds after the beginning of an action within which the signal comes.
WITHIN_S = {
    **{"sync": 0.3, "bootstrap": 4.0, "embed": 1.0, "fit": 0.6, "publish": 0.6, "cleanup": 1.0},
    FINETUNE: 8.0,
}
PATIENCE_S = 90.0
EXTRA = {
    "RAREFIRST_TIMER_S": "2",
    "RAREFIRST_DEBOUNCE_S": "0.2",
    "RAREFIRST_FIRST_QUEUE_IMAGES": "200",
    "RAREFIRST_BOOTSTRAP_STEPS": "150",
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "40",
    "RAREFIRST_FIT_IDLE_S": "1",
    "RAREFIRST_TOP_K": "60",
    "RAREFIRST_FINETUNE": "on",
    "RAREFIRST_FINETUNE_EVERY_LABELS": "5",
    "RAREFIRST_FINETUNE_MIN_TAIL_LABELS": "0",
    "RAREFIRST_FINETUNE_MIN_STEPS": "600",
    "RAREFIRST_DISCOVER_S": "30",
    "RAREFIRST_CHECK_IDS_S": "5",
}


@dataclass
class Moment:
    """One SIGTERM.

    Attributes:
        process: what got it; ``aimed``: the action that was drawn; ``doing``: what it did.
        seconds: until it was gone; ``code``: its exit code.
        faults: what was not whole afterwards.
    """

    process: str
    aimed: str
    doing: str = ""
    seconds: float = 0.0
    code: int | None = None
    faults: list[str] = field(default_factory=list)


def moment_of(backend: Backend, data_dir: Path, log: Path, drawn: Moment, delay_s: float) -> None:
    """Start a process, wait for the action, send the signal, and see what is left."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(COMMAND), drawn.process],
            env=backend.settings.environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for(drawn.aimed, data_dir, process.pid)
        time.sleep(delay_s)
        drawn.doing = _doing(data_dir, process.pid)
        family = _descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        drawn.code = process.wait(60)
        drawn.seconds = time.monotonic() - began
        drawn.faults += _left_behind(family) + faults(data_dir)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _note(data_dir: Path) -> ProgressNote:
    for path in data_dir.glob("projects/*/progress.json"):
        try:
            return ProgressNote.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            continue
    return ProgressNote()


def _doing(data_dir: Path, pid: int) -> str:
    said = _note(data_dir).doing
    return f"{said}, {FINETUNE}" if _finetunes(pid) else said


def _finetunes(pid: int) -> bool:
    return any("finetune-child" in _command(child) for child in _descendants(pid))


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _wait_for(action: str, data_dir: Path, pid: int) -> None:
    """Until the worker is at the action, or patience ends: then the moment is any moment."""
    before = _note(data_dir).since
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        note = _note(data_dir)
        if action == FINETUNE:
            if _finetunes(pid):
                return
        elif note.doing == action and note.since != before:
            return
        time.sleep(0.005)


def _descendants(pid: int) -> list[int]:
    return [one for child in children_of(pid) for one in (child, *_descendants(child))]


def _left_behind(family: Sequence[int], *, patience_s: float = 2.0) -> list[str]:
    """Processes of ours that outlive the one that started them; theirs is a moment to notice."""
    deadline = time.monotonic() + patience_s
    while True:
        alive = [command for pid in family if "rarefirst" in (command := _command(pid)).lower()]
        alive += [c for pid in family if "backend." in (c := _command(pid)) and c not in alive]
        if not alive or time.monotonic() > deadline:
            return [f"left behind: {command[:120]}" for command in alive]
        time.sleep(0.05)


def measure(arguments: argparse.Namespace) -> tuple[dict[str, object], bool]:
    rng = random.Random(arguments.seed)
    moments: list[Moment] = []
    make = partial(stand_in_server, tasks=TASKS)
    truth = {name_of(i + 1): kind for i, kind in enumerate(Pictures(TASKS).classes)}
    with tempfile.TemporaryDirectory() as logs, stage(EXTRA, make_server=make) as on:
        log = Path(logs) / "processes.log"
        on.backend.connect(1)
        on.backend.stop()
        for number, aimed in enumerate(in_turn(arguments.moments, rng)):
            drawn = Moment(process="serve" if number % 4 == 3 else "worker", aimed=aimed)
            if aimed != FIRST:
                make_due(on, aimed, truth, rng)
            moment_of(on.backend, on.data_dir, log, drawn, rng.uniform(0, WITHIN_S[aimed]))
            moments.append(drawn)
            say(
                f"{number + 1}: {drawn.process} in {drawn.doing} (aimed at {aimed}): "
                f"{drawn.seconds:.2f} s, code {drawn.code} {drawn.faults}"
            )
        given = sum(1 for row in on.api.tasks(1) if row["annotations"])
        on.backend.start()
        wait_for_queue(on.api, 1, timeout_s=600)
        mirrored = _labels_seen(on.data_dir, given, timeout_s=300)
        on.backend.stop()
        end = faults(on.data_dir)
        text = log.read_text(errors="replace")
    return summed_up(arguments, moments, given, mirrored, end, text)


def in_turn(moments: int, rng: random.Random) -> list[str]:
    """What each moment aims at: the first model first, then all else in a random order."""
    others = [action for action in WITHIN_S if action != FIRST]
    drawn = [FIRST] * max(1, moments // 10)
    while len(drawn) < moments:
        rng.shuffle(others)
        drawn += others
    return drawn[:moments]


def make_due(on: Stage, aimed: str, truth: dict[str, str], rng: random.Random) -> None:
    """Have the action to come, while nothing of ours runs; the first time there is a queue before.

    Ten labels make a fit and a publication due, which leave old scores to clean up.
    """
    if not on.api.model_versions(1).get(on.api.model_version(1)):
        on.backend.start()
        wait_for_queue(on.api, 1, timeout_s=900)
        on.backend.stop()
    Annotator(on.api, 1, truth).label(rng.randint(10, 14))
    if aimed == "embed":
        on.api.request("POST", "/stand-in/exchange", body={"count": rng.randint(200, 600)})
    if aimed == FINETUNE:
        from backend.finetune_request import ask_for_finetune

        ask_for_finetune(
            Settings(data_dir=on.data_dir, label_studio_url=on.api.url, finetune="on"), 1
        )


def _labels_seen(data_dir: Path, given: int, *, timeout_s: float) -> int:
    """Labels that the loop reports, once they are as many as were given."""
    from backend.reports import ProjectReport

    deadline, labeled = time.monotonic() + timeout_s, 0
    while time.monotonic() < deadline:
        for path in data_dir.glob("projects/*/report.json"):
            try:
                labeled = ProjectReport.model_validate_json(path.read_bytes()).labeled
            except (OSError, ValueError):
                continue
        if labeled == given:
            break
        time.sleep(0.5)
    return labeled


def summed_up(
    arguments: argparse.Namespace,
    moments: Sequence[Moment],
    given: int,
    mirrored: int,
    end: Sequence[str],
    log: str,
) -> tuple[dict[str, object], bool]:
    """The result, and whether all is as promised."""
    by_doing: dict[str, list[float]] = defaultdict(list)
    for moment in moments:
        by_doing[moment.doing].append(round(moment.seconds, 2))
    seconds = [moment.seconds for moment in moments]
    cut = log.count("a round still runs")
    wrong = [fault for moment in moments for fault in moment.faults] + list(end)
    result: dict[str, object] = {
        "benchmark": "sigterm",
        "seed": arguments.seed,
        "moments": len(moments),
        "cores": os.cpu_count(),
        "load_average": [round(value, 1) for value in os.getloadavg()],
        "exit_codes": dict(Counter(str(moment.code) for moment in moments)),
        "seconds": {
            "median": round(sorted(seconds)[len(seconds) // 2], 2),
            "max": round(max(seconds), 2),
        },
        "histogram": dict(
            sorted(Counter(f"{int(value)} to {int(value) + 1} s" for value in seconds).items())
        ),
        "seconds_by_what_it_did": dict(sorted(by_doing.items())),
        "by_process": dict(Counter(moment.process for moment in moments)),
        "rounds_cut_off": cut,
        "tracebacks_in_the_log": log.count("Traceback"),
        "not_whole": wrong,
        "labels_given": given,
        "labels_in_the_mirror": mirrored,
        "limit_s": LIMIT_S,
        "ratio_to_limit": round(max(seconds) / LIMIT_S, 3),
    }
    good = all(moment.code == 0 for moment in moments) and not wrong and given == mirrored
    return result, good and max(seconds) <= LIMIT_S


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    result, met = measure(parser.parse_args())
    conclude(result, met=met)


if __name__ == "__main__":
    main()
