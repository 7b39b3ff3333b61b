"""The dashboard over what the loop wrote, of choices and boxes; its buttons beside the commands."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.dashboard.project import project_page
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.pinning import pinned
from backend.reports import RoundEntry
from backend.settings import Settings
from tests.unit.backend.dashboard.kept import OURS, PASSWORD, USER, token_of
from tests.unit.backend.dashboard.markup import Page
from tests.unit.backend.reconcile.boxes import boxes_project, boxes_starter
from tests.unit.backend.reconcile.rounds import Say, report, run
from tests.unit.backend.reconcile.squares import Service, begin_squares


def browser_of(settings: Settings) -> FlaskClient:
    settings = settings.model_copy(update={"basic_auth_user": USER, "basic_auth_pass": PASSWORD})
    client = create_app(settings, Jobs(settings)).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = authorization_header(USER, PASSWORD)
    return client


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Service:
    service = begin_squares(tmp_path_factory.mktemp("two"))
    service.next_version()
    return service


@pytest.fixture
def squares(two: Service, tmp_path: Path, clean_environment: None) -> Service:
    shutil.copytree(two.settings.data_dir, tmp_path / "data")
    settings = two.settings.model_copy(update={"data_dir": tmp_path / "data"})
    return Service(copy.deepcopy(two.label_studio), settings)


def test_the_loops_own_files_fill_the_page(squares: Service) -> None:
    page = project_page(squares.settings, 1)
    assert page.found.labels == (24, 27)
    (curve,) = page.found.curves
    known = squares.report
    assert curve.found[0] == 2
    assert known.unchosen == 24
    assert known.unchosen_rare == known.unchosen_by_class["blue"] == 2
    assert curve.expected(27) == pytest.approx((2.25, 2.07, 2.78), abs=0.01)
    (queue,) = page.precision.queues
    assert (queue.version, queue.labeled) == ("v0001", 3)
    assert queue.rare == known.labels_by_class["blue"] - 2
    text = browser_of(squares.settings).get("/project/1").text
    assert Page(text).problems == []
    assert "Activate v0001" in text


def test_activate_and_follow_do_what_the_commands_do(squares: Service, say: Say) -> None:
    client = browser_of(squares.settings)
    token = token_of(client.get("/project/1").text)
    pressed = client.post(
        "/project/1/actions/activate", data={"token": token, "version": "v0001"}, headers=OURS
    )
    assert pressed.status_code == 303
    by_button = pinned(squares.store)
    assert by_button is not None
    squares.round()
    assert squares.served.version == "v0001"
    assert "activated by hand" in client.get("/project/1").text
    assert "v0001 stays active" in say("versions", "follow").stdout
    say("versions", "activate", "v0001")
    by_command = pinned(squares.store)
    assert by_command is not None
    assert by_command.version == by_button.version
    client.post("/project/1/actions/follow", data={"token": token}, headers=OURS)
    assert "follows its labels already" in say("versions", "follow").stdout


def test_a_project_of_boxes(tmp_path: Path, clean_environment: None) -> None:
    label_studio = boxes_project(40, blue=(5, 26, 34), labeled=24)
    reconciler = boxes_starter(label_studio, tmp_path)()
    store = run(reconciler)
    page = project_page(reconciler.settings, 1)
    assert page.boxes
    assert all(row.images is not None for row in page.classes.rows)
    assert (
        sum(row.labels for row in page.classes.rows)
        > sum(row.images or 0 for row in page.classes.rows)
        > 0
    )
    known = report(store)
    (entry,) = store.history(RoundEntry)
    assert entry.images_by_class == known.images_by_class == known.unchosen_by_class
    assert known.unchosen == sum(known.labels_by_origin.values())
    assert known.unchosen_rare >= 1
    client = browser_of(reconciler.settings)
    text = client.get("/project/1").text
    assert Page(text).problems == []
    assert '<th scope="col" class="number">boxes</th>' in text
    assert store.publications().published is not None
    assert "looks like" in client.get("/project/1/queue").text
