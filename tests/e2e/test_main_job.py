"""The main job: connect, label what is served, and the next task is a rare one."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor

from demo.annotator import Annotator, Labeled
from demo.backend_process import Backend
from demo.headless import count_lost
from demo.queue_watch import ServedQueue, reordered
from tests.e2e.harness import PASSWORD, USER, NewProject, Project, Studio, eventually

POOL = {"pool_size": 140, "rare_in_pool": 14}
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _webhooks(project: Project, backend: Backend) -> list[dict[str, object]]:
    return [
        hook
        for hook in project.get("/api/webhooks/")
        if str(hook["url"]).startswith(backend.url + "/")
    ]


def _label_two_batches(project: Project, queue: ServedQueue) -> None:
    for _ in range(2):
        before = queue
        expected = [task for task in before.tasks if task not in project.labeled_ids][:10]
        assert [label.task for label in project.label(10)] == expected
        queue = project.wait_for_queue(other_than=before.version)
        assert reordered(before, queue, project.labeled_ids, head=50)
        assert not set(queue.tasks) & project.labeled_ids


def _assert_worked(project: Project) -> None:
    assert len(project.given) == len(project.labeled_ids) == 20, "a task was served twice"
    assert count_lost(project.studio.owner, project.id, project.given) == 0
    # Random order finds 2 of 14 with 20 of 140 labels.
    assert project.rare_found >= 7
    assert {label.answer for label in project.given} >= set(project.digits.rare)


def test_connected_by_hand_in_the_settings_page(backend: Backend, new_project: NewProject) -> None:
    project = new_project(**POOL)
    project.connect_by_hand(backend)
    queue = project.wait_for_queue()
    assert project.settings()["sampling"] == "Uncertainty sampling"
    eventually(
        lambda: (
            [hook["headers"] for hook in _webhooks(project, backend)]
            == [{"Authorization": AUTHORIZATION}]
        ),
        "one webhook with the Authorization header",
    )
    tabs = [view["data"] for view in project.get("/api/dm/views")]
    assert [tab["title"] for tab in tabs if isinstance(tab, dict)].count("Rarest first") == 1
    _label_two_batches(project, queue)
    _assert_worked(project)


def test_connected_by_command(backend: Backend, new_project: NewProject) -> None:
    project = new_project(seed=1, **POOL)
    backend.command("connect", "--project", str(project.id), "--dry-run")
    assert project.get("/api/ml") == []
    backend.connect(project.id)
    backend.connect(project.id)
    assert len(project.get("/api/ml")) == 1
    assert len(_webhooks(project, backend)) == 1
    queue = project.wait_for_queue()
    _label_two_batches(project, queue)
    _assert_worked(project)


def test_two_annotators_get_different_tasks_rare_first(
    studio: Studio, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(seed=2, **POOL)
    backend.connect(project.id)
    project.wait_for_queue()
    asking = threading.Lock()
    start = threading.Barrier(2)

    def work(annotator: Annotator) -> list[Labeled]:
        start.wait(30)
        done = []
        for _ in range(10):
            # Two that ask at once may get the same task from Label Studio itself; they submit
            # whenever they are ready.
            with asking:
                served = annotator.next_task()
            assert served is not None
            done.append(annotator.submit(*served))
        return done

    with ThreadPoolExecutor(2) as people:
        both = list(people.map(work, map(project.annotator, (studio.owner, studio.colleague))))
    for theirs in both:
        project.given.extend(theirs)
        assert sum(label.answer in project.digits.rare for label in theirs) >= 3
    _assert_worked(project)
