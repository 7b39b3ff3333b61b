"""What a person sees and presses: connecting, the tab, labeling rare first, Start training."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from demo.annotator import file_name
from demo.backend_process import Backend
from demo.project import LABEL_CONFIG
from tests.e2e.browser.chromium import HEIGHT_PX, WIDTH_PX, Browser, Picture
from tests.e2e.browser.pages import DataManager, Labeling, Settings
from tests.e2e.harness import Project, Studio, eventually, status_of

pytestmark = pytest.mark.usefixtures("console")

# Everything that a project's page fetches is there: figures drawn, every picture loaded.
_SHOWN = """
const images = [...document.querySelectorAll('#queue .cards:first-of-type img')];
images.forEach(one => { one.loading = 'eager' });
return document.querySelectorAll('.js-plotly-plot').length >= 2 && images.length > 4
  && images.every(one => one.naturalWidth);
"""
LABEL_STREAM = "Active learning or random queue"
AS_DISPLAYED = "Data manager queue"


def scores(project: Project) -> dict[int, float]:
    """Score of each task under the project's version, from Label Studio's API, lowest first."""
    api = project.studio.owner
    version = api.model_version(project.id)
    listed = api.request("GET", "/api/predictions", query={"task__project": project.id}).json()
    found = {one["task"]: one["score"] for one in listed if one["model_version"] == version}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def whole(project: Project, task: int) -> dict[str, Any]:
    """A task with its annotations, drafts and predictions."""
    found: dict[str, Any] = project.studio.owner.request("GET", f"/api/tasks/{task}").json()
    return found


def truth(project: Project, task: int) -> str:
    """The digit that a task really shows."""
    return project.digits.truth[file_name(whole(project, task)["data"]["image"])]


def assert_untouched(project: Project, task: int) -> None:
    """Looking at a task stored nothing."""
    found = whole(project, task)
    assert (found["annotations"], found["drafts"]) == ([], [])


def assert_labeled_once(project: Project, task: int, digit: str) -> dict[str, Any]:
    """The person's annotation is there, alone and whole. Returns: it."""
    eventually(lambda: bool(whole(project, task)["annotations"]), f"task {task} is labeled")
    found = whole(project, task)
    assert found["drafts"] == []
    (annotation,) = found["annotations"]
    assert [region["value"] for region in annotation["result"]] == [{"choices": [digit]}]
    assert annotation["completed_by"]["email"] == project.studio.login.username
    assert annotation["was_cancelled"] is False
    return dict(annotation)


def test_a_wrong_password_is_refused_in_words(
    studio: Studio, browser: Browser, backend: Backend
) -> None:
    empty = studio.owner.create_project("Wrong password", LABEL_CONFIG)
    Settings(browser, studio.url, empty).connect(backend.url, backend.settings.user, "wrong")
    browser.shows("Validation error", "401", backend.url + "/setup")
    assert studio.owner.request("GET", "/api/ml", query={"project": empty}).json() == []


def test_connected_in_the_settings_page(
    studio: Studio,
    browser: Browser,
    backend: Backend,
    project: Project,
    settings_page: Settings,
    own_settings: dict[str, object],
) -> None:
    (connection,) = project.get("/api/ml")
    assert connection["auth_method"] == "BASIC_AUTH"
    # What was typed is kept as text.
    assert json.loads(connection["extra_params"]) == own_settings
    secret = base64.b64encode(f"{backend.settings.user}:{backend.settings.password}".encode())
    (hook,) = project.get("/api/webhooks/")
    assert hook["headers"] == {"Authorization": f"Basic {secret.decode()}"}
    version = studio.owner.model_version(project.id)
    assert version.startswith("rarefirst-")
    count = own_settings["top_k"]

    settings_page.open("annotation")
    browser.shows("Use predictions to prelabel tasks", f"{version} ({count} predictions)")
    settings_page.open("predictions")
    browser.shows("Predictions List", version)
    settings_page.open("webhooks")
    browser.shows(f"{backend.url}/webhook")
    settings_page.open()
    # The page ticks nothing for it, but keeps it.
    kept = "return document.querySelector('input[name=sampling]')?.value"
    browser.until(lambda: browser.run(kept) == "Uncertainty sampling", "sampling is by score")


def test_data_manager_shows_the_tab_and_the_scores(
    data_manager: DataManager, project: Project, picture: Picture
) -> None:
    published = scores(project)
    data_manager.open()
    assert data_manager.tabs() == ["Rarest first"]
    names = ["id", "total_annotations", "predictions_score", "predictions_model_versions"]
    assert data_manager.columns() == [f"tasks:{name}" for name in [*names, "data.image"]]
    data_manager.browser.until(
        lambda: all(row.image_loaded for row in data_manager.rows()[:8]), "thumbnails are there"
    )
    rows = data_manager.rows()
    assert len(rows) >= 8
    expected = list(published.items())[: len(rows)]
    # Label Studio shows three decimals, and a nought as it is.
    assert [(row.task, row.score) for row in rows] == [
        (i, f"{s:.3f}" if s else "0") for i, s in expected
    ]
    version = project.studio.owner.model_version(project.id)
    assert all(version in row.version for row in rows)
    picture("data-manager")


def test_label_all_tasks_serves_the_rare_ones_first(
    data_manager: DataManager,
    labeling: Labeling,
    project: Project,
    backend: Backend,
    picture: Picture,
) -> None:
    batch = int(backend.settings.extra["RAREFIRST_FIT_EVERY_LABELS"])
    before = project.wait_for_queue()
    done: list[int] = []

    def label_next() -> None:
        task = labeling.wait_for_served(len(done) + 1)
        # Nothing is ticked for a person who should look, and looking stores nothing.
        assert labeling.chosen() == []
        assert_untouched(project, task)
        if not done:
            picture("labeling")
        digit = truth(project, task)
        by_key = len(done) % 2 == 0
        labeling.choose(digit, by_key=by_key)
        labeling.submit(by_key=by_key)
        assert_labeled_once(project, task, digit)
        done.append(task)

    data_manager.open()
    data_manager.label_all()
    for _ in range(batch):
        label_next()
    assert done == list(before.tasks[:batch])
    # One in five is rare.
    assert sum(truth(project, task) in project.digits.rare for task in done) >= 3
    after = project.wait_for_queue(other_than=before.version)
    assert not set(after.tasks) & set(done)
    # One task of the old order is on the screen already; the new one begins behind it.
    for _ in range(3):
        label_next()
    assert done[batch] == before.tasks[batch]
    assert done[batch + 1 :] == [task for task in after.tasks if task != done[batch]][:2]
    assert len(set(done)) == len(done)
    served = data_manager.browser.served()
    assert {one["queue"] for one in served} == {LABEL_STREAM}


def test_label_tasks_as_displayed_serves_the_same_order(
    data_manager: DataManager, labeling: Labeling, project: Project
) -> None:
    data_manager.open()
    first = data_manager.rows()[0].task
    data_manager.label_as_displayed()
    assert labeling.wait_for_served(1) == first
    (served,) = data_manager.browser.served()
    assert served["queue"] == AS_DISPLAYED
    assert_untouched(project, first)


def test_an_empty_prediction_shows_an_empty_form(labeling: Labeling, project: Project) -> None:
    task, score = list(scores(project).items())[3]
    labeling.open(task)
    assert labeling.chosen() == []
    told = {one["id"]: one for one in whole(project, task)["predictions"]}
    current = project.studio.owner.model_version(project.id)
    (number,) = [i for i, one in told.items() if one["model_version"] == current]
    assert told[number]["result"] == []
    shown = labeling.predictions()
    assert shown.keys() == told.keys()
    # The queue's score, as if it were a confidence.
    assert f"{100 * score:.2f}%" in shown[number]
    labeling.look_at_prediction(number)
    assert labeling.chosen() == []
    assert_untouched(project, task)


def test_start_training_forces_a_fit(
    backend: Backend, project: Project, settings_page: Settings
) -> None:
    before = project.wait_for_queue()
    fitted = status_of(backend, project.id)["version"]
    settings_page.start_training()
    after = project.wait_for_queue(other_than=before.version)
    now = status_of(backend, project.id)
    assert now["version"] != fitted
    assert now["publication"]["name"] == after.version


def test_a_pre_annotation_is_ticked_and_submitted_as_it_is(
    preannotating: None, data_manager: DataManager, labeling: Labeling, project: Project
) -> None:
    data_manager.open()
    data_manager.label_all()
    task = labeling.wait_for_served(1)
    current = project.studio.owner.model_version(project.id)
    (prediction,) = [
        one for one in whole(project, task)["predictions"] if one["model_version"] == current
    ]
    (region,) = prediction["result"]
    labeling.browser.until(
        lambda: labeling.chosen() == region["value"]["choices"], "the predicted class is ticked"
    )
    assert_untouched(project, task)
    labeling.submit()
    annotation = assert_labeled_once(project, task, region["value"]["choices"][0])
    assert annotation["parent_prediction"] == prediction["id"]

    task = labeling.wait_for_served(2)
    labeling.open(task)
    (number,) = [
        one["id"] for one in whole(project, task)["predictions"] if one["model_version"] == current
    ]
    labeling.look_at_prediction(number)
    assert len(labeling.chosen()) == 1
    assert_untouched(project, task)


def test_the_dashboard_shows_this_project(
    browser: Browser, backend: Backend, project: Project, picture: Picture
) -> None:
    for _ in range(2):
        before = project.wait_for_queue()
        project.label(5)
        project.wait_for_queue(other_than=before.version)
    login = f"{backend.settings.user}:{backend.settings.password}"
    page = f"{backend.url.replace('://', f'://{login}@')}/project/{project.id}"
    browser.open(page)
    browser.until(lambda: browser.run(_SHOWN), "queue, pictures, figures are there")
    browser.shows(
        "Digits, two rare", "rare ones found", "most like these rare ones", "the loop runs"
    )
    (card, *_) = browser.run(
        "return [...document.querySelectorAll('#queue .card')].map(o => o.innerText)"
    )
    for words in ("rare", "looks like", "why here", "tail mass", "unlike common", "apart"):
        assert words in card, card
    for name in ("dashboard", "dashboard-dark", "dashboard-phone"):
        phone, dark = name.endswith("phone"), name.endswith("dark")
        browser.show_as(width=390 if phone else WIDTH_PX, height=1500 if phone else 1690, dark=dark)
        browser.open(page)
        browser.until(lambda: browser.run(_SHOWN), "queue, pictures, figures are there")
        wide = browser.run("return document.documentElement.scrollWidth")
        assert wide <= (390 if phone else WIDTH_PX)
        picture(name)
    browser.show_as(width=WIDTH_PX, height=HEIGHT_PX, dark=False)
    found = json.loads(backend.command("history", "--project", str(project.id), "--json"))
    assert found["found"]["curves"][0]["found"][-1] >= 12, "the digits 6 and 7 were labeled first"
    assert {one["kind"] for one in found["precision"]["queues"]} == {"rarefirst"}
