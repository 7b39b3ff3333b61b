"""Label without a person: batch by batch, in the order in which Label Studio serves the tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from demo.annotator import Annotator, Labeled, chosen_digits
from demo.backend_process import Backend
from demo.job import Job
from demo.label_studio_api import LabelStudioApi, LabelStudioError
from demo.queue_watch import NoNewOrderError, reordered, wait_for_queue
from demo.report import Batch, RunReport
from demo.service import ServiceError
from demo.table import batch_heading, batch_line

Say = Callable[[str], None]

NEW_ORDER_TIMEOUT_S: Final = 120.0
HEAD: Final = 50


def label_project(
    api: LabelStudioApi,
    backend: Backend,
    project_id: int,
    job: Job,
    *,
    seed: int,
    labels: int,
    batch_size: int,
    say: Say,
) -> RunReport:
    """Connect a project, wait for its first queue, then label and watch the order change.

    After connecting, nothing but labeling asks for a new order.

    Args:
        api: Label Studio as the annotator sees it.
        backend: our running service.
        project_id: the project of ``job``.
        job: its images and their truth.
        seed: of the job, for the report.
        labels: how many tasks to label.
        batch_size: labels before each wait for a new order.
        say: shows a line to the person who waits.
    """
    report = job.report(seed, project_id, job.rare, job.pool, job.rare_in_pool)
    given: list[Labeled] = []
    try:
        backend.connect(project_id)
        say("connected; waiting for the first queue")
        queue, report.first_queue_s = wait_for_queue(
            api,
            project_id,
            timeout_s=job.first_queue_s,
            waiting=_now_and_then(backend, project_id, say, every_s=10.0),
        )
        say(f"first queue after {report.first_queue_s:.1f} s: {len(queue.tasks)} tasks in order")
        annotator = Annotator(api, project_id, job.truth, regions=job.regions)
        say(batch_heading())
        for number in range(1, -(-labels // batch_size) + 1):
            job.look(api, project_id, report)
            batch = annotator.label(min(batch_size, labels - len(given)))
            given.extend(batch)
            shown = [job.shows(label.answer) for label in batch]
            report.served.extend(shown)
            done = {label.task for label in given}
            new, wait_s = wait_for_queue(
                api,
                project_id,
                other_than=queue.version,
                timeout_s=NEW_ORDER_TIMEOUT_S,
                waiting=_now_and_then(backend, project_id, say, every_s=20.0),
            )
            report.batches.append(
                Batch(
                    number,
                    len(given),
                    sum(one in job.rare for one in shown),
                    report.rare_found,
                    job.rare_in_pool * len(given) / job.pool,
                    round(wait_s, 2),
                    reordered(queue, new, done, head=HEAD),
                    new.version,
                )
            )
            say(batch_line(report.batches[-1], job.rare_in_pool))
            queue = new
    except (LabelStudioError, NoNewOrderError, ServiceError) as error:
        report.problem = str(error).splitlines()[0]
        say(f"stopped: {error}")
        say(f"the service says: {backend.what_it_does(project_id)}")
    if len(given) < labels and not report.problem:
        report.problem = f"{len(given)} tasks were served, {labels} were wanted"
    report.served_twice = len(given) - len({label.task for label in given})
    report.lost = count_lost(api, project_id, given, answers=job.answers)
    return report


def count_lost(
    api: LabelStudioApi,
    project_id: int,
    given: list[Labeled],
    *,
    answers: Callable[[Mapping[str, object]], list[str]] = chosen_digits,
) -> int:
    """How many of the labels are not in Label Studio as they were given.

    Args:
        api: Label Studio.
        project_id: the project.
        given: the labels.
        answers: what a task was labeled with; digits by default.
    """
    stored = {int(str(task["id"])): answers(task) for task in api.tasks(project_id)}
    return sum(label.answer not in stored.get(label.task, ()) for label in given)


def _now_and_then(
    backend: Backend, project_id: int, say: Say, *, every_s: float
) -> Callable[[float], None]:
    """Tell every few seconds what the service is doing while somebody waits for it."""
    told = 0.0

    def waiting(waited_s: float) -> None:
        nonlocal told
        if waited_s - told >= every_s:
            told = waited_s
            say(f"  {waited_s:.0f} s: {backend.what_it_does(project_id)}")

    return waiting
