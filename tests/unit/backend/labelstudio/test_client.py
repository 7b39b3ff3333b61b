from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from backend.errors import LabelStudioRefused, LabelStudioUnavailable, ProjectGone
from backend.labelstudio.client import LabelStudioClient, PredictionItem
from tests.unit.backend.labelstudio.conftest import TOKEN, Serve
from tests.unit.backend.labelstudio.local_http import Answer, Request, Server

CREATED = "2026-11-21T05:44:24.447401Z"
GONE = Answer(404, {"status_code": 404, "detail": "No Project matches the given query."})
PAST_THE_END = Answer(404, {"status_code": 404, "detail": "Invalid page."})


def task(number: int, **fields: object) -> dict[str, object]:
    return {
        "id": number,
        "data": {"image": f"/data/upload/1/{number}.png"},
        "created_at": CREATED,
        "updated_at": CREATED,
        "annotations": [],
        **fields,
    }


def pages(tasks: list[dict[str, object]]) -> Callable[[Request], Answer]:
    """The Data Manager's list: pages, a total, and 404 past the end."""

    def reply(request: Request) -> Answer:
        size, page = int(request.query["page_size"]), int(request.query["page"])
        start = (page - 1) * size
        if page > 1 and start >= len(tasks):
            return PAST_THE_END
        return Answer(200, {"tasks": tasks[start : start + size], "total": len(tasks)})

    return reply


def client_of(server: Server) -> LabelStudioClient:
    return LabelStudioClient(server.url + "/", TOKEN, timeout_s=5)


@pytest.mark.parametrize(("count", "requests"), [(0, 1), (3, 1), (4, 1), (5, 2), (8, 2)])
def test_tasks_come_page_by_page_and_stop_on_the_total(
    serve: Serve, count: int, requests: int
) -> None:
    server = serve(pages([task(n) for n in range(count)]))
    told: list[tuple[int, int]] = []
    records = list(
        client_of(server).tasks(
            1, page_size=4, progress=lambda done, total, message="": told.append((done, total))
        )
    )
    assert [record.id for record in records] == list(range(count))
    assert len(server.requests) == requests
    assert told[-1:] == ([(count, count)] if count else [])
    query = server.requests[0].query
    assert query["fields"] == "all"
    assert query["resolve_uri"] == "false"
    assert {"data", "result", "completed_by", "updated_at"} <= set(query["include"].split(","))
    assert "query" not in query


def test_only_what_changed_is_asked_for(serve: Serve) -> None:
    server = serve(pages([task(1)]))
    after = datetime(2026, 11, 21, 3, 43, 42, 378412, tzinfo=UTC)
    list(client_of(server).tasks(1, updated_after=after))
    (item,) = json.loads(server.requests[0].query["query"])["filters"]["items"]
    assert item == {
        "filter": "filter:tasks:updated_at",
        "operator": "greater",
        "type": "Datetime",
        "value": "2026-11-21T03:43:42.378412Z",
    }


def test_annotations_as_label_studio_really_writes_them(serve: Serve) -> None:
    region = {"from_name": "c", "to_name": "image", "type": "choices", "value": {"choices": ["a"]}}
    common = {"created_at": CREATED, "updated_at": CREATED, "ground_truth": False}
    annotations = [
        {"id": 1, "result": [region], "completed_by": 7, "was_cancelled": False, **common},
        {"id": 2, "result": None, "completed_by": {"id": 8, "email": "x"}, **common},
        {"id": 3, "result": [], "completed_by": None, "was_cancelled": True, **common},
    ]
    server = serve(pages([task(1, annotations=annotations), task(2, annotations=None)]))
    first, second = client_of(server).tasks(1)
    assert [a.completed_by for a in first.annotations] == [7, 8, 0]
    assert [len(a.result) for a in first.annotations] == [1, 0, 0]
    assert [a.was_cancelled for a in first.annotations] == [False, False, True]
    assert first.annotations[0].result[0]["value"] == {"choices": ["a"]}
    assert second.annotations == ()


def test_a_task_deleted_between_two_pages_hides_no_other(serve: Serve) -> None:
    tasks = [task(n) for n in range(8)]
    inner = pages(tasks)

    def reply(request: Request) -> Answer:
        answer = inner(request)
        if request.query["page"] == "1" and len(tasks) == 8:
            del tasks[0]
        return answer

    ids = [record.id for record in client_of(serve(reply)).tasks(1, page_size=4)]
    assert set(ids) >= set(range(1, 8))


def test_all_tasks_of_the_second_page_deleted_meanwhile(serve: Serve) -> None:
    tasks = [task(n) for n in range(6)]
    inner = pages(tasks)

    def reply(request: Request) -> Answer:
        answer = inner(request)
        del tasks[4:]
        return answer

    assert {record.id for record in client_of(serve(reply)).tasks(1, page_size=4)} >= {0, 1, 2, 3}


def test_task_ids(serve: Serve) -> None:
    server = serve(pages([{"id": n} for n in range(7)]))
    assert client_of(server).task_ids(1) == set(range(7))
    assert server.requests[0].query["include"] == "id"


def test_predictions_of_one_version_only(serve: Serve) -> None:
    rows: list[dict[str, object]] = [
        {"id": 5, "predictions": [{"id": 50, "model_version": "rf-1"}]},
        {
            "id": 6,
            "predictions": [
                {"id": 60, "model_version": "rf-12"},
                {"id": 61, "model_version": "rf-1"},
                {"id": 62, "model_version": None},
            ],
        },
    ]
    server = serve(pages(rows))
    assert client_of(server).prediction_ids(1, "rf-1") == [50, 61]
    client_of(server).prediction_ids(1, "rf-1", at_most=2)
    assert server.requests[-1].query["page_size"] == "2"
    assert client_of(server).predicted_tasks(1, "rf-1") == [5, 6]
    assert client_of(server).predicted_tasks(1, "rf-12") == [6]
    (item,) = json.loads(server.requests[0].query["query"])["filters"]["items"]
    assert item["value"] == ["rf-1"]  # a text would be taken letter by letter


def test_import_sends_what_label_studio_stores(serve: Serve) -> None:
    server = serve(lambda request: Answer(201, {"created": 1}))
    items = [
        PredictionItem(task=1, score=0.25, model_version="rf-1"),
        PredictionItem(task=2, score=1.0, model_version="rf-1", result=[{"from_name": "c"}]),
    ]
    assert client_of(server).import_predictions(1, items) == 1
    assert server.requests[0].body == [
        {"task": 1, "score": 0.25, "model_version": "rf-1", "result": []},
        {"task": 2, "score": 1.0, "model_version": "rf-1", "result": [{"from_name": "c"}]},
    ]
    assert client_of(server).import_predictions(1, []) == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_score_that_label_studio_would_drop_is_refused_here(score: float) -> None:
    with pytest.raises(ValidationError):
        PredictionItem(task=1, score=score, model_version="rf-1")


def test_projects_come_page_by_page(serve: Serve) -> None:
    def reply(request: Request) -> Answer:
        page = int(request.query["page"])
        row = {"id": page, "created_at": CREATED, "model_version": None}
        return Answer(200, {"results": [row], "next": "more" if page < 3 else None})

    projects = client_of(serve(reply)).projects()
    assert [project.id for project in projects] == [1, 2, 3]
    assert projects[0].model_version == ""
    assert projects[0].created_s == 1795239864


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.project(9),
        lambda c: list(c.tasks(9)),
        lambda c: c.task_ids(9),
        lambda c: c.update_project(9, sampling="x"),
        lambda c: c.connections(9),
        lambda c: c.model_versions(9),
        lambda c: c.import_predictions(9, [PredictionItem(task=1, score=0, model_version="x")]),
    ],
)
def test_a_gone_project_is_named(serve: Serve, call: Callable[[LabelStudioClient], object]) -> None:
    server = serve(lambda request: GONE)
    with pytest.raises(ProjectGone, match="no project 9"):
        call(client_of(server))


def test_webhooks_and_tabs_answer_400_for_a_gone_project(serve: Serve) -> None:
    error = {"project": ["Select a valid choice. That choice is not one of the available choices."]}
    body = {"detail": "Validation error", "validation_errors": error}
    client = client_of(serve(lambda request: Answer(400, body)))
    with pytest.raises(ProjectGone):
        client.webhooks(9)
    with pytest.raises(ProjectGone):
        client.views(9)
    with pytest.raises(LabelStudioRefused) as caught:
        client.update_project(9, sampling="x")
    assert not isinstance(caught.value, ProjectGone)


def test_an_answer_of_another_shape_is_not_echoed(serve: Serve) -> None:
    server = serve(lambda request: Answer(200, {"token": "do-not-show"}))
    with pytest.raises(LabelStudioUnavailable, match="created_at, id missing") as caught:
        client_of(server).project(1)
    assert "do-not-show" not in str(caught.value)


def test_cloud_addresses_are_resolved_by_label_studio() -> None:
    client = LabelStudioClient("http://ls.test", TOKEN)
    url = client.resolve_uri(7, "s3://bucket/a b.png")
    assert url == "http://ls.test/tasks/7/resolve/?fileuri=czM6Ly9idWNrZXQvYSBiLnBuZw=="


def test_a_webhook_change_always_carries_its_actions(serve: Serve) -> None:
    row = {"id": 3, "url": "http://b/webhook", "headers": None, "actions": ["TASKS_CREATED"]}
    server = serve(lambda request: Answer(200, row if request.method == "PATCH" else [row]))
    client = client_of(server)
    (hook,) = client.webhooks(1)
    client.update_webhook(hook, headers={"Authorization": "Basic x"}, actions=["TASKS_CREATED"])
    assert server.requests[-1].body == {
        "url": "http://b/webhook",
        "headers": {"Authorization": "Basic x"},
        "actions": ["TASKS_CREATED"],
        "send_for_all_actions": False,
        "send_payload": True,
        "is_active": True,
    }
