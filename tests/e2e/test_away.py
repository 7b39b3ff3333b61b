"""Label Studio away and back, and webhooks that never arrive: late, never lost."""

from __future__ import annotations

import time

import pytest

from demo.headless import count_lost
from demo.ports import free_port
from tests.e2e.harness import NewBackend, Studio, make_project, status_of

POOL = {"pool_size": 60, "rare_in_pool": 8, "seed_labels": 60, "seed": 7}
EXTRA = {
    "RAREFIRST_BOOTSTRAP_STEPS": "60",
    "RAREFIRST_TOP_K": "30",
    "RAREFIRST_TAIL_MIN_LABELS": "40",
}
AWAY_S = 60.0


def test_label_studio_stopped_for_a_minute(own_studio: Studio, new_backend: NewBackend) -> None:
    project = make_project(own_studio, title="away", **POOL)
    backend = new_backend(
        extra={**EXTRA, "RAREFIRST_TIMER_S": "3"},
        label_studio_url=own_studio.url,
        token=own_studio.login.token,
    )
    backend.connect(project.id)
    queue = project.wait_for_queue()
    # Ten labels, and Label Studio is gone before the new order can be published.
    project.label(10)
    own_studio.service.stop()
    worker, web = backend.part_pid("worker"), backend.part_pid("web")
    time.sleep(AWAY_S)
    told = status_of(backend, project.id)
    assert "try again" in told["next"] or told["label_studio"] != "reachable"
    assert (backend.part_pid("worker"), backend.part_pid("web")) == (worker, web), "no crash"
    own_studio.service.start()
    own_studio.wait_until_up()
    after = project.wait_for_queue(other_than=queue.version, timeout_s=180)
    assert not set(after.tasks) & project.labeled_ids
    assert count_lost(own_studio.owner, project.id, project.given) == 0
    project.label(10)
    project.wait_for_queue(other_than=after.version)
    assert len(project.given) == len(project.labeled_ids) == 20


def test_all_webhooks_blocked(new_backend: NewBackend, studio: Studio) -> None:
    project = make_project(studio, title="no webhooks", **POOL)
    backend = new_backend(extra={**EXTRA, "RAREFIRST_TIMER_S": "3"})
    backend.connect(project.id)
    queue = project.wait_for_queue()
    nobody = f"http://127.0.0.1:{free_port()}/webhook"
    (hook,) = project.get("/api/webhooks/")
    path = f"/api/webhooks/{hook['id']}/"
    unchanged = {"actions": hook["actions"], "headers": hook["headers"]}
    # First they are sent and fail, then there are none; what a person changed stays as it is.
    studio.owner.request("PATCH", path, body={"url": nobody, **unchanged})
    for blocked in ("sent to nobody", "deleted"):
        project.label(10)
        queue = project.wait_for_queue(other_than=queue.version)
        assert not set(queue.tasks) & project.labeled_ids
        left = [item["url"] for item in project.get("/api/webhooks/")]
        assert left == ([nobody] if blocked == "sent to nobody" else [])
        studio.owner.request("DELETE", path, expect=(204, 404))
    assert len(project.given) == len(project.labeled_ids) == 20
    assert count_lost(studio.owner, project.id, project.given) == 0
    assert status_of(backend, project.id)["labels"]["total"] == 80


@pytest.mark.parametrize("token", ["0" * 40, "not-a-token"])
def test_a_dead_token_is_named(studio: Studio, new_backend: NewBackend, token: str) -> None:
    backend = new_backend(token=token, extra={"RAREFIRST_TIMER_S": "2"})
    project = make_project(studio, title="dead token", **POOL)
    with pytest.raises(Exception, match=r"(?i)token"):
        backend.connect(project.id)
