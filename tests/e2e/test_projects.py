"""Several projects at once, each for itself; Start training; bodies over the limit."""

from __future__ import annotations

import pytest
import requests

from demo.backend_process import Backend
from demo.digits import DigitImage, choose_digits
from tests.e2e.harness import (
    Project,
    Studio,
    connect_by_hand,
    eventually,
    make_project,
    status_of,
)

EXTRA = {
    "RAREFIRST_BOOTSTRAP_STEPS": "60",
    "RAREFIRST_TOP_K": "30",
    "RAREFIRST_TAIL_MIN_LABELS": "40",
    "RAREFIRST_TIMER_S": "3",
    "RAREFIRST_MAX_BODY_MB": "1",
}
SEVERAL = (
    '<View><Image name="image" value="$image"/>'
    '<Choices name="kinds" toName="image" choice="multiple">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
SINGLE = SEVERAL.replace("multiple", "single")


@pytest.fixture(scope="module")
def backend_extra() -> dict[str, str]:
    return EXTRA


@pytest.fixture(scope="module")
def good(studio: Studio) -> Project:
    """An ordinary project; two of its images are broken all the same."""
    project = make_project(
        studio, title="good", pool_size=60, rare_in_pool=8, seed_labels=60, seed=11
    )
    import_images(studio, project.id, broken_images(project.digits.pool[0]))
    return project


def broken_images(whole: DigitImage) -> list[tuple[str, bytes]]:
    return [("torn.png", whole.png[: len(whole.png) // 2]), ("words.png", b"no image at all\n" * 9)]


def import_images(studio: Studio, project_id: int, files: list[tuple[str, bytes]]) -> None:
    paths = studio.owner.upload(project_id, files)
    studio.owner.import_tasks(project_id, [{"data": {"image": paths[name]}} for name, _ in files])


def test_a_good_project_beside_two_that_cannot_be_served(
    studio: Studio, backend: Backend, good: Project
) -> None:
    whole = choose_digits(11).pool[0]
    several = studio.owner.create_project("several labels an image", SEVERAL)
    import_images(studio, several, [(whole.name, whole.png)])
    broken = studio.owner.create_project("broken images", SINGLE)
    import_images(studio, broken, broken_images(whole))
    studio.owner.import_tasks(
        broken,
        [{"data": {"image": f"/data/upload/{broken}/nothing-here.png"}}, {"data": {"image": ""}}],
    )
    for project in (several, broken):
        connect_by_hand(studio.owner, project, backend)
    good.connect_by_hand(backend)

    queue = good.wait_for_queue()
    assert len(queue.tasks) == 30
    good.label(10)
    queue = good.wait_for_queue(other_than=queue.version)
    assert not set(queue.tasks) & good.labeled_ids
    found = status_of(backend, good.id)
    assert sum(found["failed"].values()) == 2
    assert found["label_studio"] == "reachable"
    assert found["labels"]["total"] == 70

    found = status_of(backend, several)
    assert 'choice="multiple", expected choice="single"' in found["next"]
    assert "tags found: Image, Choices; supported: Image + Choices (single)" in found["next"]
    assert found["publication"] is None

    eventually(
        lambda: sum(status_of(backend, broken)["failed"].values()) == 4, "all images were tried"
    )
    found = status_of(backend, broken)
    assert "nothing is published: no unlabeled image could be embedded" in found["why_not"]
    assert found["publication"] is None
    assert len(found["failed"]) >= 3, "different defects have different reasons"

    for project in (several, broken):
        # Their label streams still serve, in Label Studio's own order.
        assert studio.owner.request("GET", f"/api/projects/{project}/next").json()["id"]


def test_start_training_forces_a_fit(studio: Studio, backend: Backend, good: Project) -> None:
    listed = good.get("/api/ml")
    connection = listed[0]["id"] if listed else good.connect_by_hand(backend)
    before = good.wait_for_queue()
    auth = (backend.settings.user, backend.settings.password)
    fitted = status_of(backend, good.id)["version"]

    studio.owner.request("POST", f"/api/ml/{connection}/train", body={})
    # The press is known as long as its fit runs, then its job is finished.
    (job,) = requests.get(f"{backend.url}/job_status", auth=auth, timeout=10).json()["jobs"]
    assert (job["project"], job["job_status"]) in [(good.id, "queued"), (good.id, "started")]
    after = good.wait_for_queue(other_than=before.version)

    def finished() -> bool:
        path = f"{backend.url}/job_status/{job['job']}"
        told = requests.get(path, auth=auth, timeout=10).json()
        return bool(told["job_status"] == "finished")

    eventually(finished, "the job is finished", timeout_s=20)
    assert requests.get(f"{backend.url}/job_status", auth=auth, timeout=10).json()["jobs"] == []
    now = status_of(backend, good.id)
    assert now["version"] != fitted
    assert now["publication"]["name"] == after.version


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
@pytest.mark.parametrize("path", ["/webhook", "/predict", "/setup"])
def test_a_body_over_the_limit(backend: Backend, path: str, announced: bool) -> None:
    body = b'{"tasks": ["' + b"x" * 2**20 + b'"]}'
    answer = requests.post(
        backend.url + path,
        data=body if announced else iter([body]),
        auth=(backend.settings.user, backend.settings.password),
        headers={"Content-Type": "application/json"},
        timeout=10,
    )
    assert answer.status_code == 413
    error = answer.json()["error"]
    assert error["code"] == "request_too_large"
    assert "RAREFIRST_MAX_BODY_MB" in error["message"]
    assert error["request_id"]
    assert requests.get(f"{backend.url}/health", timeout=5).json()["status"] == "UP"
