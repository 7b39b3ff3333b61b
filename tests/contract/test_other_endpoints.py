"""What Label Studio asks besides: health, versions, jobs, and the older /train."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.jobs import Jobs
from backend.projects import ProjectStore
from backend.reports import ProjectReport
from backend.settings import Settings


@pytest.fixture
def client(settings: Settings, jobs: Jobs) -> FlaskClient:
    return create_app(settings, jobs).test_client()


@pytest.mark.parametrize("path", ["/health", "/", "/health/"])
def test_health_is_up_also_without_settings(settings: Settings, jobs: Jobs, path: str) -> None:
    bare = settings.model_copy(update={"label_studio_url": "", "label_studio_api_key": ""})
    answer = create_app(bare, jobs).test_client().get(path)
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "UP"


def test_versions_lists_the_published_one_first(
    client: FlaskClient, jobs: Jobs, store: ProjectStore, publish: Callable[..., object]
) -> None:
    assert client.get("/versions").get_json() == {"versions": [jobs.unpublished]}
    publish([1], [0.5], name="rarefirst-v0001-aaaaaa")
    publish([1], [0.5], name="rarefirst-v0002-bbbbbb")
    expected = {"versions": ["rarefirst-v0002-bbbbbb", "rarefirst-v0001-aaaaaa"]}
    assert client.get("/versions").get_json() == expected
    assert client.get("/versions?project=1.1795231806").get_json() == expected
    assert client.get("/versions?project=9").get_json() == {"versions": [jobs.unpublished]}


def test_the_older_train_forces_a_fit(client: FlaskClient, store: ProjectStore) -> None:
    answer = client.post("/train", json={"project": "1.1795231806", "annotations": []})
    assert answer.status_code == 201
    assert store.hinted_at("force_fit") is not None
    assert answer.get_json()["job"].startswith(store.key)


def test_train_without_a_project_says_so(client: FlaskClient) -> None:
    answer = client.post("/train", json={"annotations": []})
    assert answer.status_code == 400
    assert "names no project" in answer.get_json()["error"]["message"]


def test_a_job_is_queued_then_started_then_finished(
    client: FlaskClient, store: ProjectStore
) -> None:
    started = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 1}})
    job = started.get_json()["job"]

    def status() -> str:
        # Label Studio posts; people open the address.
        by_post = client.post("/job_status", json={"job": job}).get_json()
        by_path = client.get(f"/job_status/{job}").get_json()
        assert by_post == by_path
        word: str = by_post["job_status"]
        return word

    assert status() == "queued"
    assert [one["job"] for one in client.get("/job_status").get_json()["jobs"]] == [job]
    store.note("fit", 1, 2)
    assert status() == "started"
    mark = store.hint_mark("force_fit")
    assert mark is not None
    store.take_hint("force_fit", mark)
    assert status() == "finished"
    assert client.get("/job_status").get_json() == {"jobs": []}


def test_a_job_with_nothing_to_fit_fails_and_says_why(
    client: FlaskClient, jobs: Jobs, store: ProjectStore
) -> None:
    started = client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 1}})
    job = started.get_json()["job"]

    def state() -> dict[str, str]:
        found: dict[str, str] = client.get(f"/job_status/{job}").get_json()
        return found

    def looked(**found: object) -> None:
        report = ProjectReport(project_id=1, at=datetime.now(UTC), next="wait for images")
        store.write("report.json", report.model_copy(update=found))

    assert state()["job_status"] == "queued"
    store.note("sync")
    assert state()["job_status"] == "started"
    looked(why_not=("nothing is fitted before an image is embedded",))
    store.note("nothing")
    assert state()["job_status"] == "queued"  # the round's message still waits: another comes
    jobs.started(store.key)
    assert state()["job_status"] == "failed"
    assert "nothing is fitted before an image is embedded" in state()["why"]
    looked(label_studio="Label Studio does not answer")
    assert state()["why"] == "Label Studio does not answer"
    looked(at=datetime.fromtimestamp(0, UTC))  # before the wish
    assert state()["job_status"] == "queued"
    looked()
    store.path("paused").touch()
    assert state()["job_status"] == "queued"


@pytest.mark.parametrize("job", ["nothing", "9-0123abcd.5", "../../etc", "1-0123abcd"])
def test_an_unknown_job_is_not_found(client: FlaskClient, job: str) -> None:
    answer = client.post("/job_status", json={"job": job})
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "not_found"
