"""The dashboard over what the loop wrote, of choices and boxes; its buttons beside the commands."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from backend.app import create_app
from backend.dashboard import likeness
from backend.dashboard.likeness import order_likeness
from backend.dashboard.project import project_page
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.pinning import pinned
from backend.reports import RoundEntry
from backend.settings import Settings
from backend.why_rare import HeadWhy
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
    assert (queue.kind, queue.tail) == ("rarefirst", ("blue",))
    text = browser_of(squares.settings).get("/project/1").text
    assert Page(text).problems == []
    assert "Activate v0001" in text


def test_the_loop_says_why_the_head_is_rare(squares: Service, say: Say) -> None:
    published = squares.served
    why = HeadWhy.load(squares.store.path("publications", published.name)).by_task
    assert list(why) == list(published.task_ids)
    rows = squares.label_studio.task_rows
    blue = {
        i for i, row in rows.items() if row.annotations and squares.label_studio.truth[i] == "blue"
    }
    for one in why.values():
        assert {near.task for near in one.nearest} <= blue
        assert {near.label for near in one.nearest} == {"blue"}
        assert one.tail_mass is not None
        assert one.error_above is not None
        assert one.reconstruction_error is not None
        assert one.detections == ()
    told = json.loads(say("queue", "--json").stdout)["tasks"]
    assert told[0]["why"] == why[told[0]["task"]].model_dump(mode="json")
    assert "tail mass" in say("queue").stdout
    page = browser_of(squares.settings).get("/project/1/queue").text
    assert "most like these rare ones" in page


def test_two_versions_orders_on_a_page(squares: Service, say: Say) -> None:
    """A process of its own compares them: the same as the command says."""
    by_command = json.loads(say("versions", "compare", "v0001", "v0002", "--json").stdout)["order"]
    found = order_likeness(squares.settings, 1, "v0001", "v0002")
    assert json.loads(found.model_dump_json()) == by_command
    assert found.why_not == ""
    client = browser_of(squares.settings)
    page = client.get("/project/1/compare?a=v0001&b=v0002").text
    assert "orders=1" in page
    assert Page(page).problems == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["sleep", "60"], "it takes longer than 0 s"),
        ([sys.executable, "-c", "raise SystemExit(1)"], "it failed; `rarefirst versions compare"),
        (["/no/such/command"], "it failed"),
    ],
)
def test_orders_that_cannot_be_compared_say_why(
    command: list[str], words: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likeness, "_command", lambda *_: command)
    patience_s = 0.1 if command[0] == "sleep" else 60
    found = order_likeness(settings, 1, "v0001", "v0002", patience_s=patience_s)
    assert words in found.why_not
    assert order_likeness(settings, 1, "v0001", "v0002", patience_s=patience_s) == found


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
    queue = client.get("/project/1/queue").text
    assert "looks like" in queue
    assert "decides" in queue
    served = store.publications().published
    assert served is not None
    why = HeadWhy.load(store.path("publications", served.name)).by_task
    assert list(why) == list(served.task_ids)
    for one in why.values():
        assert sum(box.decides for box in one.detections) <= 1
        assert {near.label for near in one.nearest} <= {"blue"}
    assert any(one.nearest for one in why.values())
    assert all(one.tail_mass is not None for one in why.values() if one.detections)
