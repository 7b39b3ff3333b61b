"""What goes wrong at Label Studio's end: said clearly, nothing lost, and the worker goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import requests

from demo.backend_process import Backend
from demo.headless import count_lost
from demo.label_studio_api import log_in, sign_up
from demo.project import LABEL_CONFIG
from tests.e2e.harness import NewBackend, NewProject, Studio, eventually, status_of
from tests.e2e.stall_proxy import StallProxy

POOL = {"pool_size": 60, "rare_in_pool": 8, "seed_labels": 60, "seed": 13}
# Too few labels for a first model: quick.
FEW = {"pool_size": 40, "rare_in_pool": 4, "seed_labels": 20}
EXTRA = {
    "RAREFIRST_BOOTSTRAP_STEPS": "60",
    "RAREFIRST_TOP_K": "30",
    "RAREFIRST_TAIL_MIN_LABELS": "40",
    "RAREFIRST_TIMER_S": "2",
}


@pytest.fixture
def proxy(studio: Studio) -> Iterator[StallProxy]:
    made = StallProxy(studio.url)
    yield made
    made.close()


def test_tasks_deleted_and_config_changed(
    studio: Studio, proxy: StallProxy, new_backend: NewBackend, new_project: NewProject
) -> None:
    project = new_project(title="changing", **POOL)
    backend = new_backend(extra=EXTRA, label_studio_url=proxy.url)
    stall = proxy.stall(
        lambda method, path: method == "POST" and "/import/predictions" in path, "before"
    )
    project.connect_by_hand(backend)
    assert stall.reached.wait(120), "nothing was published"

    # Between embed and publish: more than the first queue's 30 tasks leave room for.
    pool = [
        int(str(task["id"])) for task in studio.owner.tasks(project.id) if not task["annotations"]
    ]
    gone = set(pool[::2])
    for task in gone:
        studio.owner.request("DELETE", f"/api/tasks/{task}/")
    stall.released.set()
    queue = project.wait_for_queue()
    assert set(queue.tasks) == set(pool) - gone
    assert proxy.paths.count(f"POST /api/projects/{project.id}/import/predictions") == 2
    project.label(10)
    queue = project.wait_for_queue(other_than=queue.version)

    # A config that is not served: said, and what is published stays.
    studio.owner.request(
        "PATCH",
        f"/api/projects/{project.id}",
        body={"label_config": LABEL_CONFIG.replace('choice="single"', 'choice="multiple"')},
    )
    eventually(
        lambda: 'choice="multiple"' in status_of(backend, project.id)["next"], "status says so"
    )
    project.label(4)
    assert project.settings()["model_version"] == queue.version
    studio.owner.request(
        "PATCH", f"/api/projects/{project.id}", body={"label_config": LABEL_CONFIG}
    )
    project.label(6)
    queue = project.wait_for_queue(other_than=queue.version)
    assert not set(queue.tasks) & project.labeled_ids
    assert count_lost(studio.owner, project.id, project.given) == 0
    found = status_of(backend, project.id)
    assert (found["labels"]["total"], found["tasks"]) == (80, 90)


def test_a_deleted_project_and_a_dead_token(
    studio: Studio, new_backend: NewBackend, new_project: NewProject
) -> None:
    helper = sign_up(studio.url, email="helper@example.com", password=studio.login.password)
    backend = new_backend(extra=EXTRA, token=helper.token)
    doomed = new_project(title="deleted soon", **FEW)
    project = new_project(title="stays", **POOL)
    doomed.connect_by_hand(backend)
    project.connect_by_hand(backend)
    queue = project.wait_for_queue()

    # Deleted in Label Studio while connected, perhaps in the middle of a round.
    worker = backend.part_pid("worker")
    studio.owner.delete_project(doomed.id)
    said = f"Label Studio has no project {doomed.id} that this token can see"
    eventually(lambda: said in backend.service.log_path.read_text(), "the log says so")
    eventually(lambda: not status_of(backend, doomed.id), "it is listed no more")
    project.label(10)
    queue = project.wait_for_queue(other_than=queue.version)

    # The token is reset: said at every look, nothing is lost, and a new one goes on.
    token = helper.request("POST", "/api/current-user/reset-token").json()["token"]
    project.label(10)
    eventually(
        lambda: "token" in status_of(backend, project.id)["label_studio"].lower(),
        "status names the token",
    )
    found = status_of(backend, project.id)
    assert "Copy it again" in found["label_studio"]
    assert "try again" in found["next"]
    assert project.settings()["model_version"] == queue.version
    assert backend.part_pid("worker") == worker, "the worker went on"
    backend.stop()
    again = with_token(backend, token)
    again.start()
    try:
        queue = project.wait_for_queue(other_than=queue.version)
        assert not set(queue.tasks) & project.labeled_ids
        assert status_of(again, project.id)["label_studio"] == "reachable"

        with legacy_tokens_disabled(studio) as session:
            eventually(
                lambda: "legacy" in status_of(again, project.id)["label_studio"].lower(),
                "status says that legacy tokens are disabled",
            )
            personal = session.post(f"{studio.url}/api/token/", json={}, timeout=30)
            assert personal.status_code == 201, personal.text
            again.stop()
            again = with_token(again, personal.json()["token"])
            again.start()
            eventually(
                lambda: status_of(again, project.id)["label_studio"] == "reachable",
                "a personal access token goes on",
            )
    finally:
        again.stop()
    assert len(project.given) == len(project.labeled_ids) == 20
    assert count_lost(studio.owner, project.id, project.given) == 0


def with_token(backend: Backend, token: str) -> Backend:
    """The same service with another token, as after a change of its environment."""
    run_dir = backend.service.log_path.parent
    return Backend(replace(backend.settings, token=token), run_dir=run_dir)


@contextmanager
def legacy_tokens_disabled(studio: Studio) -> Iterator[requests.Session]:
    """Switch legacy tokens off for everybody and on again; gives the owner's own session."""
    session = log_in(studio.url, studio.login.username, studio.login.password)

    def allow(legacy: bool) -> None:
        answer = session.post(
            f"{studio.url}/api/jwt/settings",
            json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": legacy},
            timeout=30,
        )
        assert answer.ok, answer.text

    allow(False)
    try:
        yield session
    finally:
        allow(True)
        session.close()


@pytest.mark.parametrize(
    "missing", [("LABEL_STUDIO_URL",), ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY")]
)
def test_settings_that_are_missing(new_backend: NewBackend, missing: tuple[str, ...]) -> None:
    backend = new_backend(extra=dict.fromkeys(missing, ""))
    health = requests.get(f"{backend.url}/health", timeout=5)
    assert (health.status_code, health.json()["status"]) == (200, "UP")
    assert json.loads(backend.command("status", "--json"))["missing_settings"] == list(missing)
    said = f"{' and '.join(missing)} is not set"
    eventually(lambda: said in backend.service.log_path.read_text(), "the log says what is missing")
    eventually(
        lambda: bool(json.loads(backend.command("status", "--json"))["worker"]["alive"]),
        "the worker stays",
    )
    with pytest.raises(Exception, match="not set: LABEL_STUDIO_URL"):
        backend.connect(1)
