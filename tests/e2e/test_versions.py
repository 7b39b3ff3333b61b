"""Back to an older version, across frozen models, and pausing, in a real Label Studio.

The order is read from Label Studio's own stored predictions, by score.
"""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from demo.backend_process import Backend
from demo.queue_watch import ServedQueue, served_queue
from demo.service import ServiceError
from tests.e2e.harness import Project, Studio, eventually, make_project, status_of

EXTRA = {
    # 60 labels to begin with: the second version comes from a frozen model that was trained.
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "70",
    "RAREFIRST_BOOTSTRAP_STEPS": "20",
    "RAREFIRST_FIT_IDLE_S": "3600",
    "RAREFIRST_TOP_K": "40",
    "RAREFIRST_TIMER_S": "600",
}


@pytest.fixture(scope="module")
def project(studio: Studio) -> Project:
    return make_project(
        studio, title="versions", pool_size=60, rare_in_pool=8, seed_labels=60, seed=4
    )


@pytest.fixture(scope="module")
def backend_extra(project: Project) -> dict[str, str]:
    return {**EXTRA, "RAREFIRST_TAIL_CLASSES": ",".join(project.digits.rare)}


def say(backend: Backend, project: Project, *words: str) -> dict[str, Any]:
    """A command's JSON."""
    said: dict[str, Any] = json.loads(
        backend.command(*words, "--project", str(project.id), "--json")
    )
    return said


def wait_until_seen(backend: Backend, project: Project) -> None:
    """The loop has seen every label, and has nothing left to do."""
    labeled = 60 + len(project.given)

    def at_rest() -> bool:
        found = status_of(backend, project.id)
        return bool(found["labels"]["total"] == labeled and found["doing"] == "nothing")

    eventually(at_rest, f"the loop has seen {labeled} labels")


def queue_now(project: Project) -> ServedQueue:
    found = served_queue(project.studio.owner, project.id)
    assert found is not None
    return found


def left_of(queue: ServedQueue, project: Project) -> list[int]:
    return [task for task in queue.tasks if task not in project.labeled_ids]


def stored_predictions(project: Project, version: str) -> list[tuple[float, int]]:
    """What Label Studio keeps of a version, lowest score first."""
    answer = project.studio.owner.request(
        "GET", "/api/predictions", query={"task__project": project.id}
    )
    return sorted(
        (item["score"], item["task"]) for item in answer.json() if item["model_version"] == version
    )


def test_an_older_version_is_served_again_in_exactly_its_order(
    backend: Backend, project: Project
) -> None:
    backend.connect(project.id)
    a = project.wait_for_queue()
    version_a = say(backend, project, "queue")["version"]
    assert [label.task for label in project.label(10)] == list(a.tasks[:10])
    b = project.wait_for_queue(other_than=a.version)
    version_b = say(backend, project, "queue")["version"]
    assert version_b > version_a
    assert left_of(b, project)[:30] != left_of(a, project)
    compared = say(backend, project, "versions", "compare", version_a, version_b)
    assert compared["frozen_model"]["how"] == {"a": "untrained", "b": "bootstrapped"}
    assert sum(compared["labels"]["added"].values()) == 10
    assert compared["order"]["tasks"] == 50

    say(backend, project, "versions", "activate", version_a)
    back = project.wait_for_queue(other_than=b.version)
    assert list(back.tasks)[:30] == left_of(a, project), "list for list"
    assert len(back.tasks) == 40
    assert not set(back.tasks) & project.labeled_ids

    # Labels come, and nothing is fitted: what is served is what was promised.
    assert [label.task for label in project.label(12)] == list(back.tasks[:12])
    wait_until_seen(backend, project)
    now = status_of(backend, project.id)
    assert (now["version"], now["pinned"]) == (version_a, version_a)
    assert any("a person activated" in reason for reason in now["why_not"])
    assert queue_now(project) == back
    with pytest.raises(ServiceError, match="is active and pinned and published"):
        say(backend, project, "versions", "delete", version_a)


def test_queue_tells_what_label_studio_stores(backend: Backend, project: Project) -> None:
    told = say(backend, project, "queue", "--limit", "0")
    stored = [
        (score, task)
        for score, task in stored_predictions(project, told["publication"])
        if task not in project.labeled_ids
    ]
    assert told["publication"] == queue_now(project).version
    assert [(entry["score"], entry["task"]) for entry in told["tasks"]] == stored
    assert told["left"] == len(stored) > 0
    assert all(entry["reason"].startswith("tail ") for entry in told["tasks"])


def test_forward_again_and_following_the_labels(backend: Backend, project: Project) -> None:
    back = queue_now(project)
    (b,) = say(backend, project, "versions", "show", "v0002")["publications"]
    order = [
        task
        for _, task in stored_predictions(project, b["name"])
        if task not in project.labeled_ids
    ]
    say(backend, project, "versions", "activate", "v0002")
    forward = project.wait_for_queue(other_than=back.version)
    assert list(forward.tasks)[: len(order)] == order

    say(backend, project, "versions", "follow")
    project.wait_for_queue(other_than=forward.version)
    wait_until_seen(backend, project)
    *_, newest = say(backend, project, "versions", "list")["versions"]
    assert (newest["marks"], newest["labels"]) == (["active", "published"], 82)
    assert newest["name"] == "v0003"
    assert status_of(backend, project.id)["pinned"] == ""


def test_pausing_and_going_on(backend: Backend, project: Project) -> None:
    before = queue_now(project)
    backend.command("pause", "--project", str(project.id))
    project.label(10)
    time.sleep(3)  # six debounces: a loop that is not paused would have begun
    assert queue_now(project) == before
    found = status_of(backend, project.id)
    assert found["paused"]
    assert "rarefirst resume" in found["next"]
    assert say(backend, project, "queue")["paused"]
    backend.command("resume", "--project", str(project.id))
    after = project.wait_for_queue(other_than=before.version)
    assert not set(after.tasks) & project.labeled_ids
