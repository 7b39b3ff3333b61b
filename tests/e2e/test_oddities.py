"""What happens when: the cases of docs/design.md's table, on a real Label Studio.

Few labels and no training: the order is a diversity order, which is quick and all that is needed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from backend.settings import Settings
from backend.status import LabelsStatus, ProjectStatus, service_status
from demo.backend_process import Backend
from demo.ports import free_port
from demo.project import LABEL_CONFIG
from tests.e2e.harness import (
    NewBackend,
    Project,
    Studio,
    connect_by_hand,
    delete_connections,
    eventually,
    make_backend,
    make_project,
)

EXTRA = {
    "RAREFIRST_BOOTSTRAP_MIN_LABELS": "100000",
    "RAREFIRST_FIT_EVERY_LABELS": "2",
    "RAREFIRST_FIT_IDLE_S": "3600",
    "RAREFIRST_TOP_K": "8",
    "RAREFIRST_TIMER_S": "1",
    "RAREFIRST_DISCOVER_S": "1",
    "RAREFIRST_DEBOUNCE_S": "0.3",
    "RAREFIRST_DELETE_PAUSE_S": "0",
    "RAREFIRST_BACKOFF_MAX_S": "2",
}
FEW = {"pool_size": 50, "rare_in_pool": 4, "seed_labels": 20, "rare_seed_labels": 2}


class Product(BaseHTTPRequestHandler):
    """Another ML backend: answers what Label Studio asks, and counts it."""

    asked: list[str]

    def do_GET(self) -> None:
        self._answer({"status": "UP"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        self.asked.append(self.path)
        one = {"result": [], "score": 0.5, "model_version": "yolo-7"}
        results = [one] * len(body.get("tasks") or ())
        self._answer({"model_version": "yolo-7", "results": results})

    def _answer(self, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def product() -> Iterator[str]:
    """The address of another product's backend."""
    handler = type("Asked", (Product,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", free_port()), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def backend_extra() -> dict[str, str]:
    return EXTRA


@pytest.fixture(scope="module")
def project(studio: Studio, backend: Backend) -> Project:
    """Connected, with a first queue."""
    made = make_project(studio, title="odd", **FEW)
    backend.connect(made.id)
    made.wait_for_queue()
    return made


def patch(project: Project, **fields: object) -> None:
    project.studio.owner.request("PATCH", f"/api/projects/{project.id}", body=fields)


def shown(project: Project) -> str:
    return str(project.settings()["model_version"] or "")


def versions(project: Project) -> dict[str, int]:
    return {name: n for name, n in project.studio.owner.model_versions(project.id).items() if n}


def status(backend: Backend, project: Project) -> ProjectStatus:
    """What `rarefirst status` says, without a process for each time that it is asked."""
    settings = Settings.model_validate(
        {
            "data_dir": backend.settings.data_dir,
            "label_studio_url": backend.settings.label_studio_url,
        }
    )
    (found,) = service_status(settings, project.id).projects
    return found


def told(backend: Backend, project: Project, part: str, words: str) -> None:
    """Wait until status says so."""
    eventually(
        lambda: any(words in line for line in getattr(status(backend, project), part)),
        f"status says {words!r} under {part}",
    )


def calm(backend: Backend, project: Project, *, other_than: str = "") -> str:
    """Wait until the newest order, another than the one named, is served; returns its name."""

    def done() -> bool:
        found = status(backend, project)
        publication = found.publication
        return (
            publication is not None
            and publication.name != other_than
            and publication.version == found.version
            and found.labels.since_fit == 0
            and found.next.startswith("everything is done")
            and shown(project) == publication.name
        )

    eventually(done, f"an order other than {other_than!r} is served", timeout_s=90)
    return shown(project)


def label(project: Project, backend: Backend) -> str:
    """Give two labels, which is enough for a new order, and wait for it; returns its name."""
    before = shown(project)
    total = status(backend, project).labels.total
    project.label(2)
    eventually(lambda: status(backend, project).labels.total == total + 2, "both labels are seen")
    return calm(backend, project, other_than=before)


def mark_of(backend: Backend, project: Project) -> str:
    """What every name of this service begins with."""
    publication = status(backend, project).publication
    assert publication is not None
    return "-".join(publication.name.split("-")[:2]) + "-"


def test_a_person_chooses(project: Project, backend: Backend) -> None:
    first = calm(backend, project)
    # Another sampling: left alone, said, and back again it goes on.
    patch(project, sampling="Sequential sampling")
    told(backend, project, "drift", "Sequential sampling")
    patch(project, sampling="Uncertainty sampling")
    eventually(lambda: not status(backend, project).drift, "nothing is odd any more")

    # An earlier queue of ours: said, and served until the next publication.
    second = label(project, backend)
    patch(project, model_version=first)
    told(backend, project, "drift", "an earlier queue of ours")
    assert shown(project) == first
    third = label(project, backend)
    assert third not in (first, second)

    # Nothing at all is a wish while the scores are there, and the title is one too.
    patch(project, model_version="")
    told(backend, project, "why_not", "empty")
    title = str(project.get("/api/ml")[0]["title"])
    patch(project, model_version=title)
    told(backend, project, "why_not", "the title of our connection")
    patch(project, model_version=third)
    assert calm(backend, project) == third

    # A deleted version is an accident; Label Studio then says null.
    project.studio.owner.request(
        "DELETE", f"/api/projects/{project.id}/model-versions", body={"model_version": third}
    )
    fourth = calm(backend, project, other_than=third)
    # So are scores deleted in the Data Manager, which leave the version standing.
    project.studio.owner.request(
        "POST",
        "/api/dm/actions",
        query={"id": "delete_tasks_predictions", "project": project.id},
        body={"selectedItems": {"all": True, "excluded": []}},
    )
    fifth = calm(backend, project, other_than=fourth)
    assert versions(project) == {fifth: 8}


def test_connections_renamed_doubled_and_deleted(
    studio: Studio, project: Project, backend: Backend
) -> None:
    (first,) = project.get("/api/ml")
    login = {
        "project": project.id,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": backend.settings.user,
        "basic_auth_pass": backend.settings.password,
    }
    body = {**login, "url": first["url"], "title": "renamed"}
    studio.owner.request("PATCH", f"/api/ml/{first['id']}", body=body)
    label(project, backend)

    # Twice the same address, and another address of the same service.
    connect_by_hand(studio.owner, project.id, backend)
    again = backend.url.replace("127.0.0.1", "localhost")
    studio.owner.request("POST", "/api/ml", body={**login, "url": again, "title": "third"})
    assert sorted(str(hook["url"]) for hook in project.get("/api/webhooks/")) == [
        f"{backend.url}/webhook",
        f"{again}/webhook",
    ]
    said = backend.connect(project.id)
    assert "3 connections lead here" in " ".join(said.split())
    assert all(hook["headers"] for hook in project.get("/api/webhooks/"))
    told(backend, project, "drift", f"{first['id']} ({backend.url}) counts")

    # The one that counts is deleted, with its webhook: the others carry on, events included.
    second, third = project.get("/api/ml")[1:]
    delete_connections(project, first["id"], second["id"])
    for hook in project.get("/api/webhooks/"):
        if hook["url"] == f"{backend.url}/webhook":
            studio.owner.request("DELETE", f"/api/webhooks/{hook['id']}/")

    def kept() -> object:
        (path,) = backend.settings.data_dir.glob(f"projects/{project.id}-*/connection.json")
        return json.loads(path.read_text())["connection_id"]

    eventually(lambda: kept() == third["id"], "the third connection counts")
    label(project, backend)
    eventually(lambda: not status(backend, project).drift, "nothing is odd any more")


def test_other_backends_beside_ours(
    studio: Studio,
    project: Project,
    backend: Backend,
    product: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ours = mark_of(backend, project)
    calm(backend, project)
    studio.owner.request(
        "POST", "/api/ml", body={"project": project.id, "url": product, "title": "yolo"}
    )
    some = next(iter(studio.owner.tasks(project.id)))
    studio.owner.request(
        "POST",
        f"/api/projects/{project.id}/import/predictions",
        body=[{"task": some["id"], "result": [], "score": 0.5, "model_version": "yolo-7"}],
    )
    other = make_backend(studio.url, studio.login.token, tmp_path_factory.mktemp("other"), EXTRA)
    other.start()
    try:
        said = " ".join(other.connect(project.id).split())
        assert "--take-over" in said
        assert f"another rarefirst ({ours[:-1]}) is connected" in said
        assert label(project, backend).startswith(ours)
        told(other, project, "why_not", f"set by another rarefirst ({ours[:-1]})")
        told(backend, project, "drift", "another rarefirst")

        # Either may be told to take over; it does so once, and nobody switches back.
        other.command("connect", "--project", str(project.id), "--take-over")
        eventually(lambda: not shown(project).startswith(ours), "the other one serves")
        theirs = mark_of(other, project)
        project.label(2)
        seen = set()
        for _ in range(8):
            seen.add(shown(project)[: len(theirs)])
            time.sleep(0.5)
        assert seen == {theirs}
        told(backend, project, "why_not", f"set by another rarefirst ({theirs[:-1]})")
        backend.command("connect", "--project", str(project.id), "--take-over")
        eventually(lambda: shown(project).startswith(ours), "ours serves again")
        # Also where neither has anything new to say.
        calm(backend, project)
        for service, mark in ((other, theirs), (backend, ours)):
            service.command("connect", "--project", str(project.id), "--take-over")
            eventually(lambda mark=mark: shown(project).startswith(mark), f"{mark} serves")

        # One leaves; what the others have stays.
        said = " ".join(other.command("disconnect", "--project", str(project.id)).split())
        assert "another rarefirst stays connected" in said
    finally:
        other.stop()
    names = set(versions(project))
    assert not [name for name in names if name.startswith(theirs)]
    assert {calm(backend, project), "yolo-7"} <= names
    assert project.settings()["sampling"] == "Uncertainty sampling"
    assert len(project.get("/api/dm/views/")) == 1
    left = {str(item["url"]) for item in project.get("/api/ml")}
    assert product in left
    assert other.url not in left
    hooks = {str(hook["url"]) for hook in project.get("/api/webhooks/")}
    assert hooks == {f"{url}/webhook" for url in left}
    assert label(project, backend).startswith(ours)


def test_a_changed_label_config(studio: Studio, project: Project, backend: Backend) -> None:
    def labels() -> LabelsStatus:
        return status(backend, project).labels

    total = sum(bool(task["annotations"]) for task in studio.owner.tasks(project.id))
    eventually(lambda: labels().total == total, "every label is seen")
    before = calm(backend, project)
    by_class = labels().by_class
    common = max(by_class, key=lambda name: by_class[name])
    unknown = {common: by_class[common]}
    choice = f'<Choice value="{common}" hotkey="{common}"/>'

    # Only how it looks: nothing happens.
    patch(project, label_config=LABEL_CONFIG.replace("<View>", '<View><Header value="Look"/>'))
    time.sleep(2.5)
    assert shown(project) == before

    # A class more, without a label; a class less: its labels are kept and counted apart; renamed:
    # the same for the old name; another order: every label is where it was.
    for xml, apart in (
        (LABEL_CONFIG.replace("</Choices>", '<Choice value="x"/></Choices>'), {}),
        (LABEL_CONFIG.replace(choice, ""), unknown),
        (LABEL_CONFIG.replace(choice, '<Choice value="renamed"/>'), unknown),
        (LABEL_CONFIG.replace(choice, "").replace("</Choices>", f"{choice}</Choices>"), {}),
    ):
        patch(project, label_config=xml)
        eventually(lambda apart=apart: labels().unknown == apart, f"{apart} is counted apart")  # type: ignore[misc]
        before = calm(backend, project, other_than=before)
        assert labels().total == total
        if not apart:
            assert labels().by_class == by_class

    # Another control in the first place: its labels are none yet.
    mined = (
        '<Choices name="quality" toName="image"><Choice value="good"/><Choice value="bad"/>'
        "</Choices>"
    )
    patch(project, label_config=LABEL_CONFIG.replace("<Choices", mined + "<Choices", 1))
    told(
        backend, project, "problems", f"{total} annotated tasks hold no choice made with 'quality'"
    )
    before = calm(backend, project, other_than=before)
    # Renaming the control itself is refused by Label Studio where people submitted labels with it.
    answer = studio.owner.request(
        "PATCH",
        f"/api/projects/{project.id}",
        body={"label_config": LABEL_CONFIG.replace('name="digit"', 'name="number"')},
        expect=(400,),
    )
    assert "incompatible with provided labeling schema" in answer.text
    # Another key for the image, which no task has: said, and the queue stays.
    patch(project, label_config=LABEL_CONFIG.replace("$image", "$photo"))
    eventually(lambda: sum(status(backend, project).failed.values()) >= 1, "no image is found")
    assert shown(project) == before
    patch(project, label_config=LABEL_CONFIG)
    eventually(lambda: not status(backend, project).failed, "images are found")
    calm(backend, project, other_than=before)
    assert labels().by_class == by_class
    label(project, backend)


def test_databases_restored_and_rebuilt(own_studio: Studio, new_backend: NewBackend) -> None:
    backend = new_backend(
        extra=EXTRA, label_studio_url=own_studio.url, token=own_studio.login.token
    )

    def swap(save_as: str, put: str | None) -> None:
        """Stop Label Studio, keep its database, put another in its place, start again.

        ``put`` names one that was kept, this one included; None: a fresh one.
        """
        own_studio.service.stop()
        own_studio.database.keep(save_as)
        own_studio.database.put(put)
        own_studio.service.start()
        own_studio.wait_until_up()

    def folders() -> set[str]:
        cards = backend.settings.data_dir.glob("projects/*/project.json")
        return {path.parent.name for path in cards}

    project = make_project(own_studio, title="first", **FEW)
    backend.connect(project.id)
    first = calm(backend, project)
    swap("early", "early")
    later = label(project, backend)

    # The backup of before is put back: labels and queue of after are gone, and it goes on.
    swap("late", "early")
    assert shown(project) == first
    eventually(lambda: status(backend, project).labels.total == 20, "20 labels")
    restored = calm(backend, project, other_than=later)
    assert restored != first
    eventually(lambda: set(versions(project)) == {restored}, "scores that came back are deleted")

    # A fresh database gives the id to another project.
    (old,) = folders()
    swap("restored", None)
    again = make_project(own_studio, title="second", **{**FEW, "seed_labels": 15, "seed": 5})
    assert again.id == project.id
    again.connect_by_hand(backend)
    eventually(lambda: len(folders()) == 1 and old not in folders(), "the old folder rests")
    new = calm(backend, again)
    found = status(backend, again)
    assert (found.title, found.labels.total, found.tasks) == ("second", 15, 65)
    assert set(versions(again)) == {new}

    # And the old one comes back: its folder goes on, nothing of the other is in it.
    swap("rebuilt", "restored")
    eventually(lambda: folders() == {old}, "the old folder is taken up again")
    assert calm(backend, project) == restored
    label(project, backend)
    found = status(backend, project)
    assert (found.title, found.labels.total, found.tasks) == ("first", 22, 70)
