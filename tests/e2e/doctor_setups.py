"""Set-ups with exactly one thing wrong, each with what the doctor must call it."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from backend import heartbeat
from backend.marks import Marks
from backend.projects import ProjectStore, ProjectStores
from backend.reconcile.state import Failure, Failures
from backend.settings import Settings
from demo.backend_process import Backend
from demo.ports import free_port
from tests.e2e.harness import Project, Studio, eventually
from tests.e2e.test_bad_input import legacy_tokens_disabled


@dataclass
class Stage:
    """A healthy project, connected to a running service."""

    studio: Studio
    project: Project
    backend: Backend
    settings: Settings

    @property
    def connection(self) -> dict[str, Any]:
        """Our connection as Label Studio's settings page shows it."""
        rows: list[dict[str, Any]] = self.project.get("/api/ml/")
        return rows[0]

    @property
    def hook(self) -> dict[str, Any]:
        """Our webhook."""
        rows: list[dict[str, Any]] = self.project.get("/api/webhooks/")
        return rows[0]

    def patch_hook(self, **fields: object) -> None:
        """Change our webhook; what a PATCH leaves out of it Label Studio empties."""
        hook = self.hook
        kept = {name: hook[name] for name in ("url", "headers", "actions")}
        path = f"/api/webhooks/{hook['id']}/"
        self.studio.owner.request("PATCH", path, body={**kept, **fields})

    def patch_project(self, **fields: object) -> None:
        """Change the project's settings."""
        self.studio.owner.request("PATCH", f"/api/projects/{self.project.id}/", body=fields)

    def delete(self, path: str) -> None:
        """Delete something."""
        self.studio.owner.request("DELETE", path)

    def set_connection(self, **fields: str) -> None:
        """Change our connection in the database: the API refuses what does not work."""
        setting = ", ".join(f"{name}=?" for name in fields)
        self.studio.database.execute(
            f"update ml_mlbackend set {setting} where id=?",
            *fields.values(),
            self.connection["id"],
        )

    @property
    def published(self) -> str:
        """The queue that we published last."""
        published = self.store.publications().published
        assert published is not None
        return published.name

    @property
    def marks(self) -> Marks:
        """When Label Studio called about the project."""
        return Marks(self.store.root)

    @property
    def failures(self) -> dict[int, Failure]:
        """Images that the loop could not read, by task."""
        return (self.store.read("failures.json", Failures) or Failures()).by_task

    @property
    def store(self) -> ProjectStore:
        """The project's folder."""
        found = ProjectStores(self.settings.data_dir, self.studio.url).find(self.project.id)
        assert found is not None
        return found


Break = Callable[[Stage], AbstractContextManager[Settings | None]]


@dataclass(frozen=True)
class SetUp:
    """One broken set-up.

    Attributes:
        name: in words.
        broken: breaks it, gives settings to run the doctor with (None: the stage's own), and puts
            back what the doctor must not mend.
        codes: what the doctor must find, and nothing else that is a warning or worse.
        fixable: ``--fix`` must mend it.
        settles: the loop must look again before all is well.
        project: of another project than the stage's.
    """

    name: str
    broken: Break
    codes: frozenset[str]
    fixable: bool = False
    settles: bool = False
    project: int | None = None


def _by_hand(change: Callable[[Stage], None], undo: Callable[[Stage], None] | None = None) -> Break:
    """Something that a person did in Label Studio."""

    @contextmanager
    def broken(stage: Stage) -> Iterator[None]:
        change(stage)
        try:
            yield None
        finally:
            if undo is not None:
                undo(stage)

    return broken


def _settings(**fields: object) -> Break:
    """The service's own settings are wrong."""

    @contextmanager
    def broken(stage: Stage) -> Iterator[Settings]:
        yield stage.settings.model_copy(update=fields)

    return broken


def _mended(name: str, code: str, change: Callable[[Stage], None]) -> SetUp:
    return SetUp(name, _by_hand(change), frozenset(code.split()), fixable=True)


def _named(
    name: str, code: str, broken: Break, *, settles: bool = False, project: int | None = None
) -> SetUp:
    return SetUp(name, broken, frozenset(code.split()), settles=settles, project=project)


# In Label Studio -------------------------------------------------------------------------------


def _second_connection(stage: Stage) -> None:
    backend = stage.backend
    stage.studio.owner.request(
        "POST",
        "/api/ml",
        body={
            "project": stage.project.id,
            "url": backend.url.replace("127.0.0.1", "localhost"),
            "title": "again",
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": backend.settings.user,
            "basic_auth_pass": backend.settings.password,
        },
    )


def _second_webhook(stage: Stage) -> None:
    hook = stage.hook
    body = {"project": stage.project.id, "url": hook["url"], "headers": hook["headers"]}
    stage.studio.owner.request("POST", "/api/webhooks/", body=body)


def _delete_scores(stage: Stage) -> None:
    stage.studio.owner.request(
        "POST",
        "/api/dm/actions",
        query={"id": "delete_tasks_predictions", "project": stage.project.id},
        body={"selectedItems": {"all": True, "excluded": []}},
    )


def _delete_tab(stage: Stage) -> None:
    for view in stage.project.get("/api/dm/views/"):
        data = view["data"]
        if isinstance(data, dict) and data.get("title") == "Rarest first":
            stage.delete(f"/api/dm/views/{view['id']}/")


def _use_others_scores(stage: Stage) -> None:
    task = stage.project.wait_for_queue().tasks[0]
    stage.studio.owner.request(
        "POST",
        f"/api/projects/{stage.project.id}/import/predictions",
        body=[{"task": task, "result": [], "score": 0.5, "model_version": "yolo-7"}],
    )
    stage.patch_project(model_version="yolo-7")


def _use_ours(stage: Stage) -> None:
    stage.patch_project(model_version=stage.published)


def _several_choices(stage: Stage) -> None:
    config = str(stage.project.settings()["label_config"])
    stage.patch_project(label_config=config.replace('choice="single"', 'choice="multiple"'))


def _single_choice(stage: Stage) -> None:
    config = str(stage.project.settings()["label_config"])
    stage.patch_project(label_config=config.replace('choice="multiple"', 'choice="single"'))


@contextmanager
def _event_lost(stage: Stage) -> Iterator[None]:
    """A label whose event never came: its marks are older than it."""
    stage.project.label(1)
    folder = stage.marks._folder
    eventually(lambda: stage.marks.last_event() is not None, "the event of the label")
    for path in folder.glob("event-*"):
        os.utime(path, (time.time() - 500, time.time() - 500))
    try:
        yield None
    finally:
        stage.project.label(1)


@contextmanager
def _images(stage: Stage, *uris: str) -> Iterator[None]:
    """Tasks whose image cannot be had, at the project's end."""
    owner, project = stage.studio.owner, stage.project.id
    before = {task["id"] for task in owner.tasks(project)}
    owner.request(
        "POST", f"/api/projects/{project}/import", body=[{"data": {"image": uri}} for uri in uris]
    )
    try:
        eventually(lambda: len(stage.failures) == len(uris), "the loop tried them too")
        yield None
    finally:
        for task in list(owner.tasks(project)):
            if task["id"] not in before:
                stage.delete(f"/api/tasks/{task['id']}/")


@contextmanager
def _legacy_off(stage: Stage) -> Iterator[None]:
    with legacy_tokens_disabled(stage.studio):
        yield None


# Around Label Studio ---------------------------------------------------------------------------


@contextmanager
def _redirecting(stage: Stage) -> Iterator[Settings]:
    target = stage.studio.url

    class Redirect(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("Location", target + self.path)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            return

    with _served(ThreadingHTTPServer(("127.0.0.1", 0), Redirect)) as url:
        yield stage.settings.model_copy(update={"label_studio_url": url})


@contextmanager
def _served(server: ThreadingHTTPServer) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _hanging(stage: Stage) -> Iterator[Settings]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        yield stage.settings.model_copy(update={"label_studio_url": url})


def _address(change: Callable[[Stage], str]) -> Break:
    @contextmanager
    def broken(stage: Stage) -> Iterator[Settings]:
        yield stage.settings.model_copy(update={"label_studio_url": change(stage)})

    return broken


def _web_token(kind: str) -> str:
    """A web token that says it is of a kind; nobody signed it."""
    parts = ({"alg": "HS256"}, {"token_type": kind, "exp": int(time.time()) + 10**8})
    coded = [base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts]
    return ".".join([*coded, "c2lnbmF0dXJl"])


# Around our processes --------------------------------------------------------------------------


def _frozen_worker(seconds_ago: float) -> Break:
    """The worker hangs, and its last sign of life has this age."""

    @contextmanager
    def broken(stage: Stage) -> Iterator[None]:
        pid = stage.backend.kill_part("worker", signal.SIGSTOP)
        at = time.time() - seconds_ago
        os.utime(stage.settings.data_dir / "worker.heartbeat", (at, at))
        try:
            yield None
        finally:
            os.kill(pid, signal.SIGCONT)
            eventually(lambda: _beats(stage), "the worker goes on")

    return broken


def _beats(stage: Stage) -> bool:
    age = heartbeat.heartbeat_age_s(stage.settings.data_dir)
    return age is not None and age < heartbeat.HEARTBEAT_S


@contextmanager
def _other_data_dir(stage: Stage) -> Iterator[Settings]:
    folder = stage.settings.data_dir.parent / "elsewhere"
    yield stage.settings.model_copy(update={"data_dir": folder})


@contextmanager
def _data_dir_is_a_file(stage: Stage) -> Iterator[Settings]:
    path = stage.settings.data_dir.parent / "a-file"
    path.write_text("not a folder")
    yield stage.settings.model_copy(update={"data_dir": path})


def _elsewhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


SET_UPS: tuple[SetUp, ...] = (
    # Mended by --fix.
    _mended("webhook without Authorization", "webhook.login", lambda s: s.patch_hook(headers={})),
    _mended(
        "webhook with another password",
        "webhook.login",
        lambda s: s.patch_hook(headers={"Authorization": "Basic d3Jvbmc6d3Jvbmc="}),
    ),
    _mended(
        "webhook deleted",
        "webhook.missing",
        lambda s: s.delete(f"/api/webhooks/{s.hook['id']}/"),
    ),
    _mended("webhook switched off", "webhook.off", lambda s: s.patch_hook(is_active=False)),
    _mended(
        "webhook for new tasks only",
        "webhook.actions",
        lambda s: s.patch_hook(actions=["TASKS_CREATED"], send_for_all_actions=False),
    ),
    _mended(
        "webhook without payload", "webhook.payload", lambda s: s.patch_hook(send_payload=False)
    ),
    _mended("two webhooks", "webhook.double", _second_webhook),
    _mended(
        "webhook moved to a dead port",
        "webhook.missing webhook.stray",
        lambda s: s.patch_hook(url=_elsewhere() + "/webhook"),
    ),
    _mended(
        "connection moved to a dead port",
        "connection.address",
        lambda s: s.set_connection(url=_elsewhere()),
    ),
    _mended(
        "connection without password",
        "connection.login",
        lambda s: s.set_connection(auth_method="NONE", basic_auth_user="", basic_auth_pass=""),
    ),
    _mended(
        "connection with another password",
        "connection.login",
        lambda s: s.set_connection(basic_auth_pass="wrong"),
    ),
    _mended("two connections to us", "connection.double", _second_connection),
    _mended(
        "sequential sampling",
        "sampling.other",
        lambda s: s.patch_project(sampling="Sequential sampling"),
    ),
    _mended(
        "empty model version", "model_version.empty", lambda s: s.patch_project(model_version="")
    ),
    _mended(
        "model version is the connection's title",
        "model_version.title",
        lambda s: s.patch_project(model_version=s.connection["title"]),
    ),
    _mended(
        "predictions switched off",
        "predictions.hidden",
        lambda s: s.patch_project(show_collab_predictions=False),
    ),
    _mended("published scores deleted", "model_version.gone", _delete_scores),
    _mended("tab deleted", "tab.missing", _delete_tab),
    # Named, and left to people.
    _named(
        "another backend's model version",
        "model_version.other",
        _by_hand(_use_others_scores, _use_ours),
    ),
    _named(
        "two annotations a task",
        "overlap.above_one",
        _by_hand(
            lambda s: s.patch_project(maximum_annotations=2),
            lambda s: s.patch_project(maximum_annotations=1),
        ),
    ),
    _named("a label whose event was lost", "events.lost", _event_lost),
    _named("Label Studio stopped", "label_studio.unreachable", _address(lambda s: _elsewhere())),
    _named("Label Studio hangs", "label_studio.slow", _hanging),
    _named("Label Studio behind a redirect", "label_studio.redirects", _redirecting),
    _named(
        "address of a page of Label Studio",
        "label_studio.path",
        _address(lambda s: f"{s.studio.url}/projects/{s.project.id}/data"),
    ),
    _named(
        "address of another program",
        "label_studio.other_program",
        _address(lambda s: s.backend.url),
    ),
    _named("settings missing", "settings.missing", _settings(label_studio_api_key="")),
    _named("token cut off", "token.malformed", _settings(label_studio_api_key="0123456789")),
    _named("token of nobody", "token.unknown", _settings(label_studio_api_key="0" * 40)),
    _named(
        "access token given", "token.access", _settings(label_studio_api_key=_web_token("access"))
    ),
    _named(
        "personal token revoked",
        "token.dead",
        _settings(label_studio_api_key=_web_token("refresh")),
    ),
    _named("no such project", "project.gone", _settings(), project=987_654),
    _named(
        "classes that the config does not hold",
        "label_config.tail_classes",
        _settings(tail_classes=("6", "eleven")),
    ),
    _named("unknown device", "device.unknown", _settings(device="gpu")),
    _named("a device that is not there", "device.absent", _settings(device="cuda:7")),
    _named("data directory is a file", "data.unwritable", _data_dir_is_a_file),
    _named(
        "another data directory",
        "worker.absent web.other_service connection.other_service",
        _other_data_dir,
    ),
    _named("web part not running", "web.absent", _settings(own_url=_elsewhere(), port=free_port())),
    _named(
        "another program on our port",
        "web.other_program",
        lambda s: _settings(own_url=s.studio.url, port=int(s.studio.url.rpartition(":")[2]))(s),
    ),
    _named(
        "web part started with another password", "web.login", _settings(basic_auth_pass="another")
    ),
    _named("worker hangs", "worker.silent", _frozen_worker(60)),
    _named("clock was set back", "worker.future", _frozen_worker(-600)),
    _named(
        "images that cannot be read",
        "images.unreadable images.failed",
        lambda s: _images(s, f"/data/upload/{s.project.id}/gone.png", "data:image/png;base64,AAAA"),
        settles=True,
    ),
    _named(
        "images on a host that is not allowed",
        "images.host images.failed",
        lambda s: _images(s, "https://images.example.org/1.png"),
        settles=True,
    ),
    _named(
        "several choices a task",
        "label_config.unsupported",
        _by_hand(_several_choices, _single_choice),
    ),
    _named("legacy tokens disabled", "token.legacy_disabled", _legacy_off),
)
