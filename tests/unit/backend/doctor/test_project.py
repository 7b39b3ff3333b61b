"""A project's settings: whether our order is served, and what it is made of."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backend.doctor import project as checks
from backend.doctor.facts import ProjectFacts
from backend.labelstudio.records import ProjectInfo
from backend.pinning import pin
from backend.project_settings import ProjectSettings
from backend.projects import ProjectStore, Publication, Publications
from backend.reports import ProjectReport
from backend.settings import Settings
from tests.recorded import PROJECT_ID
from tests.unit.backend.doctor.known import (
    CONFIG,
    FakeClient,
    connection,
    info,
    our_name,
    project_facts,
    service_facts,
    severities,
)

BOXES = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="nest" toName="image">'
    '<Label value="cat"/></RectangleLabels><RectangleLabels name="birds" toName="image">'
    '<Label value="owl"/></RectangleLabels></View>'
)


def publication(name: str, state: Any = "published") -> Publication:
    return Publication(
        name=name, version="v0001", kind="rarefirst", state=state, created_at=datetime.now(UTC)
    )


def published(settings: Settings, **known: Any) -> ProjectFacts:
    """A project whose published queue is `v0001-aaaa`."""
    facts = project_facts(settings, **known)
    served = publication(our_name(settings))
    facts.__dict__.setdefault("publications", Publications(published=served))
    return facts


@pytest.mark.parametrize(
    ("check", "fields", "expected"),
    [
        (checks.sampling, {}, {}),
        (checks.sampling, {"sampling": "Sequential sampling"}, {"sampling.other": "error"}),
        (checks.predictions, {}, {}),
        (checks.predictions, {"show_collab_predictions": False}, {"predictions.hidden": "error"}),
        (checks.overlap, {"maximum_annotations": 1}, {}),
        (checks.overlap, {"maximum_annotations": 2}, {"overlap.above_one": "warning"}),
        (checks.label_config, {}, {}),
        (checks.label_config, {"label_config": "<View/>"}, {"label_config.unsupported": "error"}),
        (checks.label_config, {"label_config": BOXES}, {}),
    ],
)
def test_settings_of_the_project(
    settings: Settings, check: Any, fields: dict[str, object], expected: dict[str, str]
) -> None:
    facts = project_facts(settings, info=info("rarefirst-x", **fields))
    assert severities(check(facts)) == expected


@pytest.mark.parametrize(
    ("now", "held", "expected"),
    [
        ("{own}v0001-aaaa", {"{own}v0001-aaaa": 3}, {}),
        ("{own}v0001-aaaa", {}, {"model_version.gone": "error"}),
        ("{own}v0000-bbbb", {"{own}v0000-bbbb": 3}, {"model_version.older": "warning"}),
        ("{own}v0000-bbbb", {}, {"model_version.gone": "error"}),
        ("", {}, {"model_version.empty": "error"}),
        ("rarefirst", {}, {"model_version.title": "error"}),
        ("yolo-7", {"yolo-7": 3}, {"model_version.other": "error"}),
        ("rarefirst-000000-v0001-aaaa", {}, {"model_version.other": "error"}),
    ],
)
def test_the_model_version(
    settings: Settings, now: str, held: dict[str, int], expected: dict[str, str]
) -> None:
    own = our_name(settings, "")
    facts = published(
        settings,
        info=info(now.format(own=own)),
        predictions={name.format(own=own): count for name, count in held.items()},
    )
    assert severities(checks.model_version(facts)) == expected


@pytest.mark.parametrize(
    ("now", "expected"),
    [("", "queue.none"), ("rarefirst", "queue.none"), ("yolo-7", "model_version.other")],
)
def test_the_model_version_before_the_first_queue(
    settings: Settings, now: str, expected: str
) -> None:
    facts = project_facts(settings, info=info(now), publications=Publications())
    assert set(severities(checks.model_version(facts))) == {expected}


def test_a_queue_that_is_being_switched_to_is_well(settings: Settings) -> None:
    own = our_name(settings, "")
    facts = project_facts(
        settings,
        info=info(own + "v0002-cccc"),
        publications=Publications(
            published=publication(own + "v0001-aaaa"),
            candidate=publication(own + "v0002-cccc", "importing"),
        ),
    )
    assert severities(checks.model_version(facts)) == {}


def test_a_queue_that_was_published_meanwhile_is_no_older_one(settings: Settings) -> None:
    own = our_name(settings, "")

    class Client(FakeClient):
        def project(self, project_id: int) -> ProjectInfo:
            return info(own + "v0001-aaaa")

    client = service_facts(settings, client=Client())
    facts = published(settings, service=client, info=info(own + "v0000-bbbb"))
    del facts.__dict__["model_version"]
    assert severities(checks.model_version(facts)) == {}


def test_whose_model_version_it_is(settings: Settings) -> None:
    yolo = connection("yolo-7", 2, url="http://yolo:9090", title="yolo")
    facts = published(
        settings, info=info("yolo-7"), connections=(connection(our_name(settings)), yolo)
    )
    (found,) = checks.model_version(facts)
    assert "the backend 'yolo'" in found.what
    assert f"connect --project {PROJECT_ID} --take-over" in found.mend
    assert not found.fixable


def test_the_tab(settings: Settings) -> None:
    assert severities(checks.tab(project_facts(settings))) == {}
    assert severities(checks.tab(project_facts(settings, views=()))) == {"tab.missing": "note"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tail_classes": ("owl",)}, {}),
        ({"tail_classes": ("owl", "eagle")}, {"label_config.tail_classes": "warning"}),
        ({"not_tail_classes": ("Cat",)}, {"label_config.tail_classes": "warning"}),
    ],
)
def test_classes_that_the_settings_name(
    settings: Settings, fields: dict[str, object], expected: dict[str, str]
) -> None:
    facts = project_facts(settings, settings=settings.model_copy(update=fields))
    assert severities(checks.label_config(facts)) == expected
    assert "owl" in CONFIG


def test_the_tags_of_boxes_are_named(settings: Settings) -> None:
    facts = project_facts(settings, info=info("rarefirst-x", label_config=BOXES))
    (found,) = checks.label_config(facts)
    assert found.what == "nest, birds: 2 classes, boxes"


def test_extra_params_that_are_wrong(settings: Settings) -> None:
    wrong = ProjectSettings(problems=("extra params: 'top_q': no such setting",))
    facts = project_facts(settings, own_settings=wrong)
    assert severities(checks.own_settings(facts)) == {"settings.extra_params": "warning"}
    right = project_facts(settings, own_settings=ProjectSettings(overrides={"top_k": 100}))
    assert severities(checks.own_settings(right)) == {}


def report(**fields: object) -> ProjectReport:
    return ProjectReport.model_validate(
        {"project_id": PROJECT_ID, "at": datetime.now(UTC), "next": "nothing", **fields}
    )


@pytest.mark.parametrize(
    ("given", "fields", "expected"),
    [
        (report(labeled=0), {}, {"labels.none": "note"}),
        (report(labeled=12), {}, {"labels.few": "note"}),
        (report(labeled=12), {"weights": "DEFAULT"}, {"labels.no_tail": "note"}),
        (report(labeled=99), {}, {"labels.no_tail": "note"}),
        (report(labeled=99, tail=("owl",)), {}, {}),
        (None, {}, {}),
    ],
)
def test_labels_to_learn_from(
    settings: Settings,
    given: ProjectReport | None,
    fields: dict[str, object],
    expected: dict[str, str],
) -> None:
    facts = project_facts(settings, report=given, settings=settings.model_copy(update=fields))
    assert severities(checks.labels(facts)) == expected


def test_the_loop_looks_and_has_nothing_to_say(settings: Settings, store: ProjectStore) -> None:
    assert severities(checks.loop(project_facts(settings, report=report()))) == {}
    none = project_facts(settings, report=None)
    assert severities(checks.loop(none)) == {"loop.none": "note"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"label_studio": "cannot reach it"}, {"loop.trouble": "warning"}),
        ({"at": datetime.now(UTC) - timedelta(hours=1)}, {"loop.stuck": "warning"}),
        ({"problems": ("no class is rare",)}, {"loop.says": "note"}),
    ],
)
def test_what_the_loop_says(
    settings: Settings, store: ProjectStore, fields: dict[str, object], expected: dict[str, str]
) -> None:
    facts = project_facts(settings, report=report(**fields))
    assert severities(checks.loop(facts)) == expected


def test_a_round_that_takes_long_is_not_stuck(settings: Settings, store: ProjectStore) -> None:
    store.note("bootstrap", 1, 2, "training")
    long_ago = datetime.fromtimestamp(time.time() - 9999, UTC)
    facts = project_facts(settings, report=report(at=long_ago))
    assert severities(checks.loop(facts)) == {}


def test_a_pinned_version_and_a_paused_project(settings: Settings, store: ProjectStore) -> None:
    pin(store, "v0003")
    facts = project_facts(settings, report=report())
    assert severities(checks.loop(facts)) == {"loop.pinned": "note"}
    store.path("paused").touch()
    assert severities(checks.loop(facts)) == {}
