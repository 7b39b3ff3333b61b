"""What the end-to-end tests hold in their hands: a Label Studio, projects in it, our service."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from backend.settings import Settings
from backend.status import ProjectStatus, service_status
from demo.annotator import Annotator, Labeled
from demo.backend_process import Backend, BackendSettings
from demo.digits import DigitSet, choose_digits
from demo.label_studio_api import LabelStudioApi, sign_up
from demo.label_studio_process import Login, label_studio
from demo.ports import free_port
from demo.project import create_digits_project
from demo.queue_watch import ServedQueue, served_queue, wait_for_queue
from demo.service import Service
from tests.canary import CANARIES, secret, watch_login
from tests.e2e.databases import Database, PostgresDatabase, SqliteDatabase
from tests.postgres import Postgres

USER = "rarefirst"
PASSWORD = secret("the password of tests")
watch_login(USER, PASSWORD, "the password of tests")

_WRITTEN_BACK_S = 2.0

# Quick enough for tests, and nothing that would change what is tested.
QUICK = {"RAREFIRST_DEBOUNCE_S": "0.5", "RAREFIRST_BOOTSTRAP_STEPS": "500"}


@dataclass
class Studio:
    """A running Label Studio and its two users.

    Attributes:
        service: its process; may be stopped and started again on the same port.
        login: its first user.
        owner: Label Studio as the first user sees it.
        colleague: as the second one sees it.
        files: the folder whose subfolders may be local-files storages.
        database: what it keeps its data in.
    """

    service: Service
    login: Login
    owner: LabelStudioApi
    colleague: LabelStudioApi
    files: Path
    database: Database

    @property
    def url(self) -> str:
        """Its address."""
        return self.owner.url

    def wait_until_up(self) -> None:
        """Wait after a start."""
        self.service.wait_until_up(self.url + "/health", timeout_s=120)


@dataclass
class Project:
    """A digits project and what was done in it."""

    studio: Studio
    id: int
    digits: DigitSet
    given: list[Labeled] = field(default_factory=list)

    def annotator(self, api: LabelStudioApi | None = None) -> Annotator:
        """Somebody who labels it; the owner by default."""
        return Annotator(api or self.studio.owner, self.id, self.digits.truth)

    def label(self, count: int, api: LabelStudioApi | None = None) -> list[Labeled]:
        """Label what is served next, and keep account of it."""
        done = self.annotator(api).label(count)
        self.given.extend(done)
        return done

    @property
    def labeled_ids(self) -> set[int]:
        """Tasks labeled so far."""
        return {label.task for label in self.given}

    @property
    def rare_found(self) -> int:
        """Rare ones among them."""
        return sum(label.answer in self.digits.rare for label in self.given)

    def connect_by_hand(self, backend: Backend) -> int:
        """Connect it as Label Studio's settings page does. Returns: the connection's id."""
        return connect_by_hand(self.studio.owner, self.id, backend)

    def wait_for_queue(self, *, other_than: str = "", timeout_s: float = 240.0) -> ServedQueue:
        """Wait until another order than the one named is served."""
        queue, _ = wait_for_queue(
            self.studio.owner, self.id, other_than=other_than, timeout_s=timeout_s
        )
        return queue

    def get(self, path: str) -> list[dict[str, object]]:
        """A list of Label Studio's that belongs to this project, such as ``/api/webhooks/``."""
        listed: list[dict[str, object]] = self.studio.owner.request(
            "GET", path, query={"project": self.id}
        ).json()
        # PostgreSQL gives rows that were written since in another order.
        return sorted(listed, key=lambda row: int(str(row["id"])))

    def settings(self) -> dict[str, object]:
        """The project's own settings in Label Studio."""
        found: dict[str, object] = self.studio.owner.request(
            "GET", f"/api/projects/{self.id}"
        ).json()
        return found


def start_studio(run_dir: Path, postgres: Postgres | None = None) -> Iterator[Studio]:
    """A fresh Label Studio with two users, below ``run_dir``, as long as it is held."""
    database: Database = (
        SqliteDatabase(run_dir / "data") if postgres is None else PostgresDatabase(postgres)
    )
    files = run_dir / "files"
    files.mkdir()
    extra = {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
        **database.environment,
    }
    login = Login("owner@example.com", secrets.token_hex(8), secrets.token_hex(20))
    CANARIES.watch(login.password, "the password of Label Studio")
    CANARIES.watch(login.token, "the token of Label Studio")
    (run_dir / "data").mkdir()
    database.prepare()
    port = free_port()
    service = label_studio(run_dir / "data", port=port, login=login, run_dir=run_dir, extra=extra)
    url = f"http://127.0.0.1:{port}"
    service.start()
    apis: list[LabelStudioApi] = []
    try:
        service.wait_until_up(url + "/health", timeout_s=180)
        apis.append(LabelStudioApi(url, login.token))
        apis.append(sign_up(url, email="colleague@example.com", password=login.password))
        yield Studio(service, login, *apis, files=files, database=database)
    finally:
        for api in apis:
            api.close()
        service.stop()


NewProject = Callable[..., Project]
NewBackend = Callable[..., Backend]


def make_project(studio: Studio, *, title: str = "Digits", **digits: int) -> Project:
    """A new project in ``studio``; ``digits`` are the arguments of :func:`choose_digits`."""
    chosen = choose_digits(digits.pop("seed", 0), **digits)
    number = create_digits_project(studio.owner, chosen, title=title, progress=lambda _: None)
    return Project(studio, number, chosen)


def make_backend(
    label_studio_url: str, token: str, folder: Path, extra: dict[str, str] | None = None
) -> Backend:
    """Our service on a free port with a data folder of its own; not started yet.

    Args:
        label_studio_url: where it looks for Label Studio; may be a proxy.
        token: an API token.
        folder: data and logs.
        extra: further environment variables.
    """
    settings = BackendSettings(
        label_studio_url=label_studio_url,
        token=token,
        port=free_port(),
        data_dir=folder / "data",
        user=USER,
        password=PASSWORD,
        extra={**QUICK, **(extra or {})},
    )
    return Backend(settings, run_dir=folder)


def connect_by_hand(api: LabelStudioApi, project_id: int, backend: Backend) -> int:
    """What Label Studio's settings page does. Returns: the connection's id."""
    answer = api.request(
        "POST",
        "/api/ml",
        body={
            "project": project_id,
            "url": backend.url,
            "title": "by hand",
            "auth_method": "BASIC_AUTH",
            "basic_auth_user": backend.settings.user,
            "basic_auth_pass": backend.settings.password,
        },
    )
    connection: int = answer.json()["id"]
    return connection


def status_of(backend: Backend, project_id: int) -> dict[str, Any]:
    """What ``rarefirst status --json`` says of a project; empty where it knows none."""
    projects: list[dict[str, Any]] = json.loads(backend.command("status", "--json"))["projects"]
    return next((told for told in projects if told["project"] == project_id), {})


def quick_status(backend: Backend, project_id: int) -> ProjectStatus:
    """What ``rarefirst status`` would say, without a process for each look: for those that wait."""
    settings = Settings(
        data_dir=backend.settings.data_dir, label_studio_url=backend.settings.label_studio_url
    )
    (told,) = service_status(settings, project_id).projects
    return told


def eventually(check: Callable[[], bool], what: str, *, timeout_s: float = 60.0) -> None:
    """Wait until ``check`` holds; fail with ``what`` was waited for."""
    deadline = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.25)


def delete_connections(project: Project, *ids: int) -> None:
    """Delete connections for good, as a person does who looks again.

    Label Studio writes each connection back that it holds while it answers for a list of them, so
    one that is deleted just then by somebody else returns with its old id (docs/label-studio.md).
    """
    owner = project.studio.owner

    def gone() -> bool:
        found = [item["id"] for item in project.get("/api/ml") if item["id"] in ids]
        for connection in found:
            owner.request("DELETE", f"/api/ml/{connection}")
        return not found

    eventually(gone, f"connections {ids} are deleted")
    # A list that was being answered while they were deleted may only now write them back.
    time.sleep(_WRITTEN_BACK_S)
    eventually(gone, f"connections {ids} stay deleted")


@dataclass
class QueueWatch:
    """Looks again and again, as an annotator and as Label Studio's page do, whether all is served.

    Attributes:
        empty: moments at which no unlabeled task had a score; versions: those that were served.
        unanswered: what /predict said that was not a result for the task.
        looks: how often it looked.
    """

    project: Project
    backend: Backend
    task: dict[str, object]
    empty: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    looks: int = 0

    def __enter__(self) -> QueueWatch:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)

    def _look(self) -> None:
        owner = self.project.studio.owner
        api = LabelStudioApi(owner.url, self.project.studio.login.token)
        body = {"tasks": [self.task], "project": str(self.project.id), "label_config": ""}
        try:
            while not self._stop.is_set():
                queue = served_queue(api, self.project.id)
                tasks = set(queue.tasks) if queue is not None else set()
                version = queue.version if queue is not None else ""
                if not self.versions or self.versions[-1] != version:
                    self.versions.append(version)
                if not tasks - self.project.labeled_ids:
                    self.empty.append(version)
                answer = requests.post(
                    self.backend.url + "/predict", json=body, auth=(USER, PASSWORD), timeout=60
                )
                if answer.status_code != 200 or len(answer.json()["results"]) != 1:
                    self.unanswered.append(answer.text[:200])
                self.looks += 1
                self._stop.wait(1.0)
        finally:
            api.close()
