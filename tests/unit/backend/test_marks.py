"""The marks of Label Studio's calls: what leaves one, and that nothing of a request is kept."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.jobs import Jobs
from backend.marks import FOLDER, Marks
from backend.projects import ProjectStore
from backend.settings import Settings
from tests.recorded import CREATED_S, PROJECT_ID

SETUP = {"project": f"{PROJECT_ID}.{CREATED_S}", "access_token": "secret", "schema": "<View/>"}


def event(action: str) -> dict[str, object]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(CREATED_S))
    return {"action": action, "project": {"id": PROJECT_ID, "created_at": created}}


def test_nothing_is_marked_before_anything_happened(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    assert (marks.stamp("setup"), marks.at("setup"), marks.last_event()) == (None, None, None)


def test_a_later_mark_differs_and_tells_the_time(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    marks.leave("setup")
    first = marks.stamp("setup")
    marks.leave("setup")
    second = marks.stamp("setup")
    assert first is not None
    assert second is not None
    assert second > first
    at = marks.at("setup")
    assert at is not None
    assert abs(time.time() - at) < 5


def test_the_newest_event_is_told_with_its_action(tmp_path: Path) -> None:
    marks = Marks(tmp_path)
    marks.leave_event("TASKS_CREATED")
    marks.leave_event("ANNOTATION_CREATED")
    marks.leave("setup")
    found = marks.last_event()
    assert found is not None
    assert found[0] == "ANNOTATION_CREATED"


def test_a_mark_that_cannot_be_left_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    Marks(tmp_path).leave("setup")
    assert Marks(tmp_path).last_event() is None


def test_calls_of_a_known_project_are_marked_in_its_folder(
    client: FlaskClient, store: ProjectStore
) -> None:
    client.post("/setup", json=SETUP)
    client.post("/predict", json={"tasks": [], "project": SETUP["project"]})
    client.post("/webhook", json=event("ANNOTATION_CREATED"))
    marks = Marks(store.root)
    assert marks.at("setup")
    assert marks.at("predict")
    found = marks.last_event()
    assert found is not None
    assert found[0] == "ANNOTATION_CREATED"
    assert all(path.read_bytes() == b"" for path in store.path(FOLDER).iterdir())


def test_calls_of_an_unknown_project_are_marked_in_one_place(
    client: FlaskClient, settings: Settings
) -> None:
    client.post("/setup", json={**SETUP, "project": "77.5"})
    assert Marks(settings.data_dir).at("setup")


@pytest.mark.parametrize("action", ["../../escape", "NO_SUCH_ACTION", 7, None])
def test_an_action_that_we_do_not_know_leaves_no_file(
    client: FlaskClient, settings: Settings, store: ProjectStore, action: object
) -> None:
    client.post("/webhook", data=json.dumps({**event("x"), "action": action}))
    assert Marks(store.root).last_event() is None
    assert not list(settings.data_dir.rglob("*escape*"))


def test_a_refused_login_is_marked_and_a_right_one_is_not(settings: Settings, jobs: Jobs) -> None:
    login = settings.model_copy(update={"basic_auth_user": "u", "basic_auth_pass": "p"})
    client = create_app(login, jobs).test_client()
    marks = Marks(settings.data_dir)
    client.get("/metrics")
    client.post("/webhook", json=event("ANNOTATION_CREATED"), auth=("u", "p"))
    assert marks.at("refused-webhook") is None
    client.post("/webhook", json=event("ANNOTATION_CREATED"), auth=("u", "wrong"))
    client.post("/setup", json=SETUP)
    assert marks.at("refused-webhook")
    assert marks.at("refused-setup")
    assert marks.at("refused-metrics") is None
