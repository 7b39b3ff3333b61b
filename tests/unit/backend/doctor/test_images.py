"""A sample of images, fetched through a real client from a small server, and decoded."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from backend.doctor import images
from backend.doctor.facts import ProjectFacts
from backend.labelstudio.client import LabelStudioClient
from backend.projects import ProjectStore
from backend.reconcile.state import Failure, Failures
from backend.settings import Settings
from tests.unit.backend.doctor.known import project_facts, service_facts, severities
from tests.unit.backend.labelstudio.local_http import Answer, Request, Server


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


FILES = {"/data/upload/1/whole.png": png(), "/data/upload/1/torn.png": png()[:40]}


class Project:
    """A server with the tasks that are given."""

    def __init__(self, settings: Settings, *uris: object) -> None:
        self.uris = uris
        self.server = Server(self.reply)
        client = LabelStudioClient(self.server.url, "0" * 40, timeout_s=5)
        self.facts = project_facts(
            settings,
            service=service_facts(settings, client=client),
        )

    def reply(self, request: Request) -> Answer:
        if request.path == "/api/tasks":
            rows = [{"id": i + 1, "data": {"image": uri}} for i, uri in enumerate(self.uris)]
            size, page = int(request.query["page_size"]), int(request.query["page"])
            return Answer(200, {"tasks": rows[(page - 1) * size :][:size], "total": len(rows)})
        found = FILES.get(request.path)
        return Answer(404, {}) if found is None else Answer(200, found)


@pytest.fixture
def examined(settings: Settings) -> Iterator[list[Project]]:
    made: list[Project] = []
    yield made
    for project in made:
        project.server.close()


def look(made: list[Project], settings: Settings, *uris: object) -> ProjectFacts:
    made.append(Project(settings, *uris))
    return made[-1].facts


def test_whole_images(settings: Settings, examined: list[Project]) -> None:
    facts = look(examined, settings, *["/data/upload/1/whole.png"] * 4)
    (found,) = images.sample(facts)
    assert (found.severity, found.what) == (
        "ok",
        "4 images of a sample were fetched and decoded",
    )


def test_no_tasks(settings: Settings, examined: list[Project]) -> None:
    assert severities(images.sample(look(examined, settings))) == {"images.none": "note"}


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("/data/upload/1/torn.png", "images.unreadable"),
        ("/data/upload/1/gone.png", "images.unreadable"),
        ("data:image/png;base64,AAAA", "images.unreadable"),
        ("", "images.unreadable"),
        (7, "images.unreadable"),
        ("https://images.example.org/1.png", "images.host"),
    ],
)
def test_one_that_cannot_be_read_is_named_with_its_task(
    settings: Settings, examined: list[Project], uri: object, code: str
) -> None:
    found = list(images.sample(look(examined, settings, "/data/upload/1/whole.png", uri)))
    assert severities(found) == {code: "warning"}
    assert "(task 2)" in found[0].what
    assert "1 of 2" in found[0].what


def test_a_project_of_which_none_can_be_read_is_an_error(
    settings: Settings, examined: list[Project]
) -> None:
    facts = look(examined, settings, *["/data/upload/1/gone.png"] * 5)
    (found,) = images.sample(facts)
    assert (found.code, found.severity) == ("images.unreadable", "error")
    assert "(task 1, 2, 3)" in found.what


def test_a_cached_image_that_is_gone_now_is_found_out(
    settings: Settings, examined: list[Project]
) -> None:
    facts = look(examined, settings, "/data/upload/1/whole.png")
    assert severities(images.sample(facts)) == {}
    assert not (settings.data_dir / "images").exists() or not any(
        (settings.data_dir / "images").rglob("*.png")
    )
    examined[0].uris = ("/data/upload/1/gone.png",)
    assert severities(images.sample(facts)) == {"images.unreadable": "error"}


def test_what_the_worker_could_not_read(settings: Settings, store: ProjectStore) -> None:
    facts = project_facts(settings)
    assert severities(images.failures(facts)) == {}
    failed = {i: Failure(reason="too large" if i < 4 else "no image", digest="d") for i in range(6)}
    store.write("failures.json", Failures(by_task=failed))
    (found,) = images.failures(facts)
    assert (found.code, found.severity) == ("images.failed", "warning")
    assert "6 images could not be read: 4: too large; 2: no image" in found.what
