"""``make demo``: Label Studio with pictures to label, some of them rare, and rarefirst beside it.

The pictures are handwritten digits, or with ``--task detection`` any that have boxes. Without
``--headless`` it stays up for a person to label; with it, it labels by itself, says what was found
and ends with 0 only if everything promised was seen.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.panel import Panel

from demo.backend_process import Backend, BackendSettings
from demo.box_data import BoxDataError
from demo.headless import label_project
from demo.job import Job
from demo.label_studio_api import LabelStudioApi, LabelStudioError
from demo.label_studio_process import ROOT, label_studio, prepare
from demo.ports import PortTakenError, require_free_port
from demo.project import create_project, resume_project
from demo.queue_watch import NoNewOrderError, wait_for_queue
from demo.report import RunReport
from demo.service import Service, ServiceError
from demo.state import DemoState, fresh_state, load_state, save_state
from demo.table import spread_lines, summary_table
from demo.tasks import TASKS, DataWantedError, MakeJob

console = Console(highlight=False, soft_wrap=True)
STARTED = time.monotonic()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo. Returns: the exit status."""
    options = _parse(arguments)
    try:
        make = TASKS[options.task](options)
        first = make(options.seed)
    except (BoxDataError, DataWantedError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 2
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        return _headless(options, first, make) if options.headless else _interactive(options, first)
    except (PortTakenError, ServiceError, LabelStudioError, NoNewOrderError) as error:
        console.print(f"demo: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("\nstopped; `make demo` goes on where it was")
        return 0 if not options.headless else 130


def _interactive(options: argparse.Namespace, job: Job) -> int:
    """Start everything, tell where to look, and stay until Ctrl-C."""
    home = ROOT / ".demo" / f"interactive{job.home}"
    state_path = home / "state.json"
    state = load_state(state_path)
    if state is None:
        # Data without its credentials is of no use to anybody: start over.
        fresh, state = True, fresh_state()
    else:
        fresh = False
    with _servers(options, home, state, job, fresh=fresh) as (studio, api, backend):
        save_state(state_path, state)
        if state.project is None or not api.project_exists(state.project):
            state = _with_project(api, state, state_path, job)
        assert state.project is not None
        backend.connect(state.project)
        say("connected; waiting for the first queue (a first model is trained on the labels)")
        told = 0.0

        def waiting(waited_s: float) -> None:
            nonlocal told
            if waited_s - told >= 5 and state.project is not None:
                told = waited_s
                say(f"  {waited_s:.0f} s: {backend.what_it_does(state.project)}")

        queue, _ = wait_for_queue(api, state.project, timeout_s=job.first_queue_s, waiting=waiting)
        say(f"the queue is published: {len(queue.tasks)} tasks, the rare ones first")
        console.print(_what_to_look_at(api.url, state, home), soft_wrap=False)
        while True:
            for service in (studio, backend.service):
                if not service.alive:
                    raise ServiceError(f"{service.name} ended.\n{service.log_tail()}")
            time.sleep(1)


def _with_project(api: LabelStudioApi, state: DemoState, state_path: Path, job: Job) -> DemoState:
    """Make the project, or find the one that a killed run made; remembered either way."""
    if state.project is not None or not state.mark:
        # A mark belongs to one project, and that one was deleted.
        state = replace(state, project=None, rare=(), tips=(), mark=fresh_state().mark)
    # Remembered before there is a project: a kill leaves none that the next run cannot find.
    state = replace(state, rare=state.rare or job.rare, tips=state.tips or tuple(job.tips))
    save_state(state_path, state)
    description = f"Made by `make demo` ({state.mark})."
    project = resume_project(api, description)
    if project is None:
        state = replace(state, rare=job.rare, tips=tuple(job.tips))
        save_state(state_path, state)
        for note in job.notes:
            say(note)
        say("creating the project")
        project = create_project(
            api, job.label_config, job.images, title=job.title, progress=say,
            description=description,
        )  # fmt: skip
    state = replace(state, project=project)
    save_state(state_path, state)
    return state


def _headless(options: argparse.Namespace, first: Job, make: MakeJob) -> int:
    """Label one fresh project for each seed and judge what was found."""
    home = ROOT / ".demo" / ("headless" if options.task == "digits" else f"headless-{options.task}")
    state = fresh_state()
    count = options.seeds or 1
    reports: list[RunReport] = []
    with _servers(options, home, state, first, fresh=True) as (_, api, backend):
        for seed in range(options.seed, options.seed + count):
            job = first if seed == options.seed else make(seed)
            for note in job.notes:
                say(f"seed {seed}: {note}")
            project = create_project(
                api, job.label_config, job.images, title=f"{job.title} ({seed})", progress=say
            )
            labels = job.labels if options.labels is None else options.labels
            reports.append(
                label_project(
                    api, backend, project, job,
                    seed=seed, labels=labels, batch_size=options.batch, say=say,
                )
            )  # fmt: skip
            console.print(summary_table(reports[-1:]))
            for remark in reports[-1].remarks():
                console.print(remark)
    result = home.with_suffix(".json")
    result.write_text(json.dumps([report.as_json() for report in reports], indent=2))
    if count > 1:
        console.print(summary_table(reports))
        for line in spread_lines(reports):
            console.print(line)
    failures = [f"seed {report.seed}: {text}" for report in reports for text in report.failures()]
    for failure in failures:
        console.print(failure, style="red", markup=False)
    console.print(f"details: {result}")
    console.print("it did not work" if failures else "it worked", style="bold")
    return 1 if failures else 0


@contextmanager
def _servers(
    options: argparse.Namespace, home: Path, state: DemoState, job: Job, *, fresh: bool
) -> Iterator[tuple[Service, LabelStudioApi, Backend]]:
    """Both servers, up; stopped in the end whatever happens. ``fresh`` forgets all data first."""
    data_dir = home / "label-studio"
    studio_port = options.label_studio_port
    studio = label_studio(data_dir, port=studio_port, login=state.login, run_dir=home)
    studio.stop_leftover()
    settings = BackendSettings(
        label_studio_url=f"http://127.0.0.1:{studio_port}",
        token=state.token,
        port=options.port,
        data_dir=home / "rarefirst",
        user="demo",
        password=state.backend_password,
        extra=job.environment,
    )
    backend = Backend(settings, run_dir=home)
    backend.service.stop_leftover()
    require_free_port(studio_port, purpose="Label Studio", variable="LABEL_STUDIO_PORT")
    require_free_port(options.port, purpose="rarefirst", variable="PORT")
    if fresh:
        # Only now that nothing of an earlier run writes there any more.
        shutil.rmtree(home, ignore_errors=True)
    prepare(data_dir, progress=say)
    api = LabelStudioApi(settings.label_studio_url, state.token)
    try:
        say("starting Label Studio and rarefirst")
        studio.start()
        studio.wait_until_up(api.url + "/health", timeout_s=180, progress=say)
        say(f"Label Studio is up at {api.url}")
        backend.start()
        say(f"rarefirst is up at {backend.url}")
        yield studio, api, backend
    finally:
        # A second Ctrl-C must not leave anything running.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        say("stopping")
        backend.stop()
        studio.stop()
        api.close()


def say(message: str) -> None:
    """A line with the seconds since the start."""
    console.print(f"[{time.monotonic() - STARTED:6.1f} s] {message}", markup=False)


def _what_to_look_at(url: str, state: DemoState, home: Path) -> Panel:
    tips = [
        *state.tips,
        'After every 10 labels the queue orders itself anew; the tab "Rarest first" shows it.',
        f"rarefirst keeps its logs in {home.relative_to(ROOT)}; nothing leaves this machine.",
    ]
    listed = "\n".join(f"{number}. {tip}" for number, tip in enumerate(tips, start=1))
    return Panel(
        f"[bold]{url}/projects/{state.project}/data[/bold]\n"
        f"log in as [bold]{state.login.username}[/bold], password [bold]{state.password}[/bold]\n\n"
        f"{listed}\n\n"
        "Ctrl-C stops everything; `make demo` goes on where it was.",
        title="rarefirst demo",
        expand=False,
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--task", choices=sorted(TASKS), default="digits", help="what is labeled")
    parser.add_argument("--data", type=Path, help="detection: folder or zip of pictures with boxes")
    parser.add_argument("--tail", default="", help="detection: rare classes, comma-separated")
    parser.add_argument("--tiles", type=int, help="detection: side of tiles in px, 0 for none")
    parser.add_argument("--pictures", type=int, help="detection: at most so many to label")
    parser.add_argument("--headless", action="store_true", help="label by itself and judge")
    parser.add_argument(
        "--seed", type=int, default=0, help="chooses images, and which digits are rare"
    )
    parser.add_argument("--seeds", type=int, help="headless: so many seeds in turn")
    parser.add_argument("--labels", type=int, help="headless: tasks to label")
    parser.add_argument("--batch", type=int, default=10, help="headless: labels a batch")
    parser.add_argument("--port", type=int, default=9090, help="of rarefirst")
    parser.add_argument("--label-studio-port", type=int, default=8080, help="of Label Studio")
    return parser.parse_args(arguments)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """Let a plain kill stop everything in order too."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
