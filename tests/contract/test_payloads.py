"""Every recorded body, replayed; every answer, read as Label Studio reads it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from label_studio_sdk.label_interface.objects import PredictionValue
from werkzeug.test import TestResponse

from backend.jobs import Jobs
from backend.projects import ProjectStore

PAYLOADS = Path(__file__).parent / "payloads" / "1.23.2"
WEBHOOKS = sorted(PAYLOADS.glob("webhook_*.json"))
PREDICTS = sorted(PAYLOADS.glob("predict_*.json"))
Send = Callable[[str, bytes], TestResponse]


def hints(store: ProjectStore) -> set[str]:
    folder = store.path("hints")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def the_store(store: ProjectStore, path: Path) -> bool:
    """Whether a payload is about the recorded classification project."""
    body = json.loads(path.read_text())
    project = body["project"]
    if isinstance(project, str):
        return project == "1.1795231806"
    created = datetime.fromisoformat(project["created_at"])
    return project["id"] == 1 and int(created.astimezone(UTC).timestamp()) == 1795231806


def test_the_recorded_payloads_are_all_there() -> None:
    assert len(WEBHOOKS) == 15
    assert len(PREDICTS) == 4


def test_setup_is_answered_with_the_one_key_that_is_read(
    send: Send, jobs: Jobs, store: ProjectStore, publish: Callable[..., object]
) -> None:
    body = (PAYLOADS / "setup.json").read_bytes()
    answer = send("/setup", body)
    assert answer.status_code == 200
    assert answer.get_json() == {"model_version": jobs.unpublished}
    publish([1, 2, 3], [0.5, 0.25, 0.75])
    assert send("/setup", body).get_json() == {"model_version": "rarefirst-v0007-abc123"}


def test_setup_of_a_new_project_asks_the_worker_to_look(send: Send, jobs: Jobs) -> None:
    body = json.loads((PAYLOADS / "setup.json").read_text())
    assert send("/setup", json.dumps(body).encode()).status_code == 200
    (task,) = jobs.huey.pending()
    assert (task.name, task.args) == ("register", (1,))


def test_setup_is_taken_also_as_a_string(send: Send, jobs: Jobs) -> None:
    twice = json.dumps((PAYLOADS / "setup.json").read_text()).encode()
    assert send("/setup", twice).get_json() == {"model_version": jobs.unpublished}


@pytest.mark.parametrize("path", PREDICTS, ids=lambda path: path.stem)
def test_predict_answers_each_task_in_order_under_the_version_of_setup(
    send: Send, store: ProjectStore, publish: Callable[..., object], path: Path
) -> None:
    publish([1, 2, 3], [0.5, 0.25, 0.75])
    asked = json.loads(path.read_text())
    setup = send("/setup", json.dumps({"project": asked["project"], "schema": ""}).encode())
    answer = send("/predict", path.read_bytes())
    assert answer.status_code == 200
    results = answer.get_json()["results"]
    assert len(results) == len(asked["tasks"])
    expected = {1: 0.5, 2: 0.75, 3: 0.25}
    for task, result in zip(asked["tasks"], results, strict=True):
        assert result["score"] == (expected[task["id"]] if the_store(store, path) else 1.0)
        assert result["model_version"] == setup.get_json()["model_version"]
        # As the SDK's own class has it: a list of regions, a number, a name.
        read = PredictionValue.model_validate(result)
        assert read.score == result["score"]
        assert read.model_version == result["model_version"]
        assert result["result"] == []


EXPECTED = {
    "ANNOTATION_CREATED": {"changed"},
    "ANNOTATION_UPDATED": {"changed"},
    "ANNOTATIONS_CREATED": {"changed"},
    "ANNOTATIONS_DELETED": {"deleted"},
    "TASKS_CREATED": {"changed"},
    "TASKS_DELETED": {"deleted"},
    "PROJECT_UPDATED": {"changed"},
    "START_TRAINING": {"force_fit"},
}


@pytest.mark.parametrize("path", WEBHOOKS, ids=lambda path: path.stem)
def test_every_webhook_becomes_a_hint_at_once(
    send: Send, jobs: Jobs, store: ProjectStore, path: Path
) -> None:
    began = time.perf_counter()
    answer = send("/webhook", path.read_bytes())
    assert time.perf_counter() - began < 0.5  # Label Studio hangs up after one second
    assert answer.status_code == 200
    action = json.loads(path.read_text())["action"]
    if the_store(store, path):
        assert hints(store) == EXPECTED[action]
        assert [task.name for task in jobs.huey.pending()] == ["reconcile"]
    else:
        assert hints(store) == set()
        assert [task.name for task in jobs.huey.pending()] == ["register"]


def test_start_training_names_a_job_that_fits_label_studios_column(
    send: Send, store: ProjectStore
) -> None:
    answer = send("/webhook", (PAYLOADS / "webhook_START_TRAINING.json").read_bytes())
    assert 0 < len(answer.get_json()["job"]) <= 128


def test_a_label_config_that_the_loop_has_seen_is_no_news(
    send: Send, jobs: Jobs, store: ProjectStore
) -> None:
    body = json.loads((PAYLOADS / "webhook_PROJECT_UPDATED.json").read_text())
    seen = hashlib.sha256(body["project"]["label_config"].encode()).hexdigest()
    store.path("label_config.sha256").write_text(seen)
    send("/webhook", json.dumps(body).encode())
    assert hints(store) == set()
    body["project"]["label_config"] += "<!-- changed -->"
    send("/webhook", json.dumps(body).encode())
    assert hints(store) == {"changed"}


@pytest.mark.parametrize(
    "body",
    [
        {"action": "ANNOTATION_DELETED", "project": {"id": 1}},
        {"action": "SOMETHING_NEW", "project": {"id": 1}},
        {"action": None},
        {"action": "TASKS_CREATED", "project": {"id": "x", "created_at": "never"}},
        {"action": "TASKS_CREATED", "project": []},
        {"action": "TASKS_CREATED"},
        {},
    ],
)
def test_events_that_mean_nothing_to_us_are_answered(
    send: Send, jobs: Jobs, store: ProjectStore, body: dict[str, object]
) -> None:
    answer = send("/webhook", json.dumps(body).encode())
    assert answer.status_code == 200
    assert answer.get_json() == {"status": "ignored"}
    assert hints(store) == set()
    assert jobs.huey.pending_count() == 0


def test_five_thousand_tasks_in_one_predict(
    send: Send, store: ProjectStore, publish: Callable[..., object]
) -> None:
    count = 5000
    rarity = np.random.default_rng(0).permutation(count) / count
    known = range(1, count + 1, 2)  # every second task is published, the others have no model
    publish(list(known), rarity[::2])
    body = json.loads((PAYLOADS / "predict_open_task.json").read_text())
    (task,) = body["tasks"]
    body["tasks"] = [{**task, "id": number} for number in range(1, count + 1)]
    began = time.perf_counter()
    results = send("/predict", json.dumps(body).encode()).get_json()["results"]
    assert time.perf_counter() - began < 90
    assert len(results) == count
    expected = [1 - float(np.float32(rarity[n])) if n % 2 == 0 else 1.0 for n in range(count)]
    assert [result["score"] for result in results] == expected
