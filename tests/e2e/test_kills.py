"""Kill -9 of the worker in each action: the round completes after the restart, as without it.

The worker reaches Label Studio through a proxy that holds a telling request still, so that the
kill falls where it is meant to. Every scenario uses the same images and labels; the queue that is
published in the end must be the one of the undisturbed run, task for task and score for score.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from backend.projects import ProgressNote, ProjectStore, ProjectStores
from demo.backend_process import Backend
from tests.e2e.harness import NewBackend, NewProject, Project, Studio, eventually
from tests.e2e.stall_proxy import Moment, StallProxy

POOL = {"pool_size": 60, "rare_in_pool": 8, "seed_labels": 60, "seed": 5}
EXTRA = {
    "RAREFIRST_TIMER_S": "2",
    "RAREFIRST_BOOTSTRAP_STEPS": "60",
    "RAREFIRST_TOP_K": "30",
    "RAREFIRST_FIT_IDLE_S": "1",
    "RAREFIRST_TAIL_MIN_LABELS": "40",
    # Fewer threads give the same sums whatever else the machine does.
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Order:
    """A published queue, by the place of each task in its project: ids differ between projects."""

    tasks: tuple[int, ...]
    scores: tuple[float, ...]


def stored(project: Project) -> dict[str, list[tuple[float, int]]]:
    """Scores in Label Studio, by version, lowest first."""
    rows = project.studio.owner.request(
        "GET", "/api/predictions", query={"task__project": project.id}
    ).json()
    found: dict[str, list[tuple[float, int]]] = {}
    for row in rows:
        found.setdefault(row["model_version"], []).append((row["score"], row["task"]))
    return {name: sorted(pairs) for name, pairs in found.items()}


def published_order(project: Project) -> Order:
    """The order that Label Studio serves now."""
    version = str(project.settings()["model_version"])
    pairs = stored(project)[version]
    first = min(int(str(task["id"])) for task in project.studio.owner.tasks(project.id))
    return Order(
        tuple(task - first for _, task in pairs), tuple(round(score, 6) for score, _ in pairs)
    )


def store_of(backend: Backend) -> ProjectStore:
    """The folder of the backend's only project."""
    stores = ProjectStores(backend.settings.data_dir, backend.settings.label_studio_url)
    (store,) = stores.all()
    return store


@pytest.fixture
def proxy(studio: Studio) -> Iterator[StallProxy]:
    made = StallProxy(studio.url)
    yield made
    made.close()


@pytest.fixture(scope="module")
def reference() -> dict[str, Order]:
    """The order of the undisturbed run, filled in by the first test."""
    return {}


def undisturbed(
    reference: dict[str, Order], new_backend: NewBackend, new_project: NewProject
) -> Order:
    if "order" not in reference:
        project = new_project(title="undisturbed", **POOL)
        backend = new_backend(extra=EXTRA)
        backend.connect(project.id)
        project.wait_for_queue()
        settled(backend, project)
        reference["order"] = published_order(project)
        backend.stop()
    return reference["order"]


def settled(backend: Backend, project: Project) -> None:
    """Wait until a publication stands and nothing is left to do."""

    def done() -> bool:
        try:
            store = store_of(backend)
        except ValueError:
            return False
        known = store.publications()
        return (
            known.published is not None
            and known.candidate is None
            and known.published.version != ""
            and project.settings()["model_version"] == known.published.name
            and store.progress().doing == "nothing"
            and known.leftovers == ()
        )

    eventually(done, "a settled publication", timeout_s=180)


def assert_as_undisturbed(backend: Backend, project: Project, expected: Order) -> None:
    settled(backend, project)
    store = store_of(backend)
    known = store.publications()
    assert known.published is not None
    versions = stored(project)
    sizes = {name: len(pairs) for name, pairs in versions.items()}
    assert sizes[known.published.name] == len(known.published.task_ids)
    assert len({task for _, task in versions[known.published.name]}) == sizes[known.published.name]
    kept = {known.published.name, *([known.previous.name] if known.previous else [])}
    assert set(sizes) <= kept, "scores of a killed round are left in Label Studio"
    assert published_order(project) == expected
    # A round of the timer may hold it for a moment; a lock left held never comes free.
    eventually(lambda: free(store), "the project's lock is free", timeout_s=30)


def free(store: ProjectStore) -> bool:
    with store.lock() as held:
        return held


def request(method: str, part: str) -> Callable[[str, str], bool]:
    return lambda sent, path: sent == method and part in path


# tests/faults kills at random moments too; of these, what could be stored twice is tried each time.
SLOW = pytest.mark.slow
AT_REQUEST = [
    pytest.param(request("PATCH", "/api/webhooks"), "after", 1, id="connect", marks=SLOW),
    pytest.param(request("GET", "/api/tasks"), "after", 1, id="sync", marks=SLOW),
    pytest.param(request("GET", "/data/upload"), "before", 90, id="embed", marks=SLOW),
    pytest.param(request("POST", "/import/predictions"), "before", 1, id="publish-before-import"),
    pytest.param(request("POST", "/import/predictions"), "after", 1, id="publish-after-import"),
    pytest.param(request("PATCH", "/api/projects"), "after", 2, id="publish-after-switch"),
]


@pytest.mark.parametrize(("matches", "moment", "nth"), AT_REQUEST)
def test_killed_at_a_request(
    matches: Callable[[str, str], bool],
    moment: Moment,
    nth: int,
    proxy: StallProxy,
    reference: dict[str, Order],
    new_backend: NewBackend,
    new_project: NewProject,
) -> None:
    expected = undisturbed(reference, new_backend, new_project)
    project = new_project(title="killed", **POOL)
    stall = proxy.stall(matches, moment, nth=nth)
    backend = new_backend(extra=EXTRA, label_studio_url=proxy.url)
    connect_by_hand(project, backend)
    assert stall.reached.wait(120), "the worker never came to this request"
    kill_worker(backend)
    stall.released.set()
    assert_as_undisturbed(backend, project, expected)


@pytest.mark.parametrize("action", ["bootstrap", pytest.param("fit", marks=SLOW)])
def test_killed_while_computing(
    action: str,
    reference: dict[str, Order],
    new_backend: NewBackend,
    new_project: NewProject,
) -> None:
    expected = undisturbed(reference, new_backend, new_project)
    project = new_project(title=f"killed in {action}", **POOL)
    backend = new_backend(extra=EXTRA)
    connect_by_hand(project, backend)
    wait_until_doing(backend, action)
    children = descendants(backend.part_pid("worker"))
    kill_worker(backend)
    eventually(lambda: not any(map(alive, children)), "no child process outlives the worker")
    assert_as_undisturbed(backend, project, expected)


def test_killed_while_deleting_old_scores(
    proxy: StallProxy, new_backend: NewBackend, new_project: NewProject
) -> None:
    project = new_project(title="killed in cleanup", **POOL)
    backend = new_backend(extra=EXTRA, label_studio_url=proxy.url)
    connect_by_hand(project, backend)
    queue = project.wait_for_queue()
    stall = proxy.stall(request("DELETE", "/api/predictions/"), "after", nth=3)
    for _ in range(2):
        project.label(10)
        queue = project.wait_for_queue(other_than=queue.version)
    assert stall.reached.wait(120), "no old scores were deleted"
    kill_worker(backend)
    stall.released.set()
    settled(backend, project)
    known = store_of(backend).publications()
    assert known.published is not None
    assert known.previous is not None
    sizes = {name: len(pairs) for name, pairs in stored(project).items()}
    assert set(sizes) == {known.published.name, known.previous.name}
    assert sizes[known.published.name] == len(known.published.task_ids)
    assert len(project.given) == len(project.labeled_ids) == 20


def connect_by_hand(project: Project, backend: Backend) -> None:
    project.studio.owner.request(
        "POST",
        "/api/ml",
        body={
            "project": project.id,
            "url": backend.url,
            "title": "by hand",
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": backend.settings.user,
            "basic_auth_pass": backend.settings.password,
        },
    )


def wait_until_doing(backend: Backend, action: str) -> None:
    """Wait until the worker is in the middle of an action."""
    folder = backend.settings.data_dir / "projects"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for path in folder.glob("*/progress.json"):
            try:
                note = ProgressNote.model_validate_json(path.read_bytes())
            except (OSError, ValueError):
                continue
            if note.doing == action and note.total > 1 and note.done > 0:
                return
        time.sleep(0.002)
    pytest.fail(f"the worker was never seen in {action}")


def kill_worker(backend: Backend) -> None:
    """Kill -9 and wait until the supervisor has another one."""
    killed = backend.kill_part("worker", signal.SIGKILL)

    def another() -> bool:
        try:
            return backend.part_pid("worker") != killed
        except Exception:  # between two writes nobody is noted
            return False

    eventually(another, "another worker")


def descendants(pid: int) -> list[int]:
    """Children of a process, theirs included."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
