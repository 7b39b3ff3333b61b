"""Settings of one project, written into its connection in a real Label Studio, and what they do.

The frozen model stays untrained, which is quick. Timers are long: what is seen within seconds was
told by Label Studio.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from demo.backend_process import Backend
from demo.project import LABEL_CONFIG
from demo.queue_watch import ServedQueue
from tests.e2e.harness import Project, Studio, eventually, make_project, status_of

EXTRA = {
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "10000",
    "RAREFIRST_TOP_K": "12",
    "RAREFIRST_TAIL_MIN_LABELS": "10000",
    "RAREFIRST_TIMER_S": "600",
    "RAREFIRST_DISCOVER_S": "600",
}
#: From a PATCH to scores of another size in Label Studio: 2 to 4 s on two idle cores. Far below the
#: timers above, which is what matters, with room for busy machines.
SECONDS = 90.0


@pytest.fixture(scope="module")
def backend_extra() -> dict[str, str]:
    return EXTRA


@pytest.fixture(scope="module")
def project(studio: Studio) -> Project:
    return make_project(
        studio, title="own settings", pool_size=24, rare_in_pool=4, seed_labels=24, seed=5
    )


def connect(project: Project, backend: Backend, extra_params: object) -> int:
    """Add the connection with extra params, as a script would."""
    return int(project.studio.owner.request("POST", "/api/ml", body={
        "project": project.id, "url": backend.url, "title": "by hand",
        "extra_params": extra_params, **login(backend),
    }).json()["id"])  # fmt: skip


def write(project: Project, backend: Backend, connection: int, extra_params: object) -> object:
    """Change the extra params. Returns: what Label Studio keeps of them."""
    answer = project.studio.owner.request("PATCH", f"/api/ml/{connection}", body={
        "project": project.id, "url": backend.url,
        "extra_params": extra_params, **login(backend),
    })  # fmt: skip
    kept: object = answer.json()["extra_params"]
    return kept


def login(backend: Backend) -> dict[str, str]:
    return {
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": backend.settings.user,
        "basic_auth_pass": backend.settings.password,
    }


def connection_of(project: Project, backend: Backend) -> int:
    listed = project.get("/api/ml")
    return int(str(listed[0]["id"])) if listed else connect(project, backend, None)


def wait_for_size(project: Project, size: int, *, other_than: str) -> ServedQueue:
    queue = project.wait_for_queue(other_than=other_than, timeout_s=SECONDS)
    assert len(queue.tasks) == size
    return queue


def choices(project: Project, version: str) -> dict[int, float]:
    """Confidence of each pre-annotation of a version, by task; 0 where there is none."""
    found: list[dict[str, Any]] = project.studio.owner.request(
        "GET", "/api/predictions", query={"task__project": project.id}
    ).json()
    return {
        item["task"]: item["result"][0]["score"] if item["result"] else 0.0
        for item in found
        if item["model_version"] == version
    }


def test_an_object_counts_from_the_first_queue_on(project: Project, backend: Backend) -> None:
    rare = project.digits.rare[0]
    connect(
        project,
        backend,
        {"top_k": 7, "RAREFIRST_Tail_Classes": [rare], "port": 1, "control_share": 3},
    )
    queue = project.wait_for_queue()
    assert len(queue.tasks) == 7
    found = status_of(backend, project.id)
    assert found["settings"] == {"top_k": 7, "tail_classes": [rare]}
    assert found["tail"] == [rare]
    assert [line for line in found["problems"] if line.startswith("extra params")] == [
        'extra params: "port": is a setting of the whole service, expected one of a project; it '
        "is set in the environment of rarefirst",
        'extra params: "control_share": found 3, expected a number, at least 0, at most 0.5',
    ]
    assert "own setting" in backend.command("status")


def test_text_and_garbage_are_seen_within_seconds(project: Project, backend: Backend) -> None:
    connection = connection_of(project, backend)
    before = project.wait_for_queue()
    text = '{"TOP_K": "5"}'
    assert write(project, backend, connection, text) == text
    queue = wait_for_size(project, 5, other_than=before.version)

    # The settings page shows an object as this, and saves it like any other text.
    write(project, backend, connection, "[object Object]")
    eventually(lambda: "settings page" in str(status_of(backend, project.id)["problems"]), "told")
    assert status_of(backend, project.id)["settings"] == {"top_k": 5}
    assert project.wait_for_queue().version == queue.version

    assert write(project, backend, connection, "top_k=5") == "top_k=5"
    after = wait_for_size(project, 12, other_than=queue.version)
    found = status_of(backend, project.id)
    assert found["settings"] == {}
    (problem,) = [line for line in found["problems"] if "extra params" in line]
    assert 'found "top_k=5", expected a JSON object' in problem

    # Once settled, nothing goes on by itself.
    time.sleep(3)
    assert project.wait_for_queue().version == after.version


def test_only_sure_tasks_carry_a_choice(studio: Studio, project: Project, backend: Backend) -> None:
    connection = connection_of(project, backend)
    before = project.wait_for_queue()
    assert set(choices(project, before.version).values()) == {0.0}
    write(project, backend, connection, {"preannotate": "true"})
    queue = wait_for_size(project, 12, other_than=before.version)
    sure = choices(project, queue.version)
    assert all(confidence > 0 for confidence in sure.values())

    threshold = sorted(sure.values())[6]
    fitted = status_of(backend, project.id)["version"]
    configured(studio, project, f'model_score_threshold="{threshold}"')
    after = wait_for_size(project, 12, other_than=queue.version)
    assert after.tasks == queue.tasks
    shown = choices(project, after.version)
    assert {task for task, confidence in shown.items() if confidence} == {
        task for task, confidence in sure.items() if confidence >= threshold
    }
    assert 0 < sum(confidence > 0 for confidence in shown.values()) < 12
    assert status_of(backend, project.id)["version"] == fitted

    configured(studio, project, 'model_score_threshold="50 %"')
    wait_for_size(project, 12, other_than=after.version)
    assert "expected a number from 0 to 1" in str(status_of(backend, project.id)["problems"])


def test_a_block_that_is_not_ours(studio: Studio, project: Project, backend: Backend) -> None:
    connection_of(project, backend)
    before = project.wait_for_queue()
    first = (
        '<Choices name="quality" toName="image" model_skip="true">'
        '<Choice value="sharp"/><Choice value="blurred"/></Choices>'
    )
    configured(studio, project, "", first=first)
    project.label(2)

    def labels() -> int:
        return int(status_of(backend, project.id)["labels"]["total"])

    eventually(lambda: labels() == 26, "the block after the skipped one counts")
    configured(studio, project, 'model_skip="true"', first=first)
    eventually(
        lambda: "digit: model_skip is set" in status_of(backend, project.id)["next"], "refused"
    )
    assert "quality: model_skip is set" in status_of(backend, project.id)["next"]
    assert project.wait_for_queue().version == before.version


def configured(studio: Studio, project: Project, attributes: str, *, first: str = "") -> None:
    """Change the label config: attributes of the choices, and a block before them."""
    config = LABEL_CONFIG.replace("<Choices ", f"{first}<Choices {attributes} ")
    studio.owner.request("PATCH", f"/api/projects/{project.id}", body={"label_config": config})
