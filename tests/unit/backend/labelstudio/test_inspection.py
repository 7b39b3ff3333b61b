"""What the doctor asks Label Studio: told apart from what else may answer, and nothing changed."""

from __future__ import annotations

import socket

import pytest

from backend.errors import LabelStudioUnavailable, ProjectGone
from backend.labelstudio.client import LabelStudioClient
from backend.labelstudio.inspection import look_at
from tests.unit.backend.labelstudio.conftest import TOKEN, Serve
from tests.unit.backend.labelstudio.local_http import Answer, Request

RESERVED = "URL resolves to a reserved network address (block: 127.0.0.0/8)"


def label_studio(request: Request) -> Answer:
    """Answers /api/version below any path, as the real one does, and else only at the root."""
    if request.path.endswith("/api/version"):
        return Answer(200, {"release": "1.23.2"})
    known = request.path == "/api/projects/"
    return Answer(401 if known else 404, {"detail": "no"})


def test_label_studio_is_known_by_its_version(serve: Serve) -> None:
    found = look_at(serve(label_studio).url + "/", timeout_s=5)
    assert (found.kind, found.release) == ("label_studio", "1.23.2")
    assert found.ahead_s is not None
    assert abs(found.ahead_s) < 3, "the server of the test has our own clock"
    assert found.took_s > 0


def test_below_a_path_it_does_not_live_under(serve: Serve) -> None:
    url = serve(label_studio).url
    found = look_at(url + "/projects/1/data", timeout_s=5)
    assert (found.kind, found.detail) == ("path", url)


def test_a_redirect_names_the_address_to_set(serve: Serve) -> None:
    target = {"Location": "https://ls.example.org/api/version?next=x"}
    found = look_at(serve(lambda request: Answer(301, {}, target)).url, timeout_s=5)
    assert (found.kind, found.detail) == ("redirects", "https://ls.example.org")


@pytest.mark.parametrize("body", [b"<html>", {"version": 3}, [1], {"release": 7}])
def test_another_program(serve: Serve, body: object) -> None:
    assert look_at(serve(lambda request: Answer(200, body)).url, timeout_s=5).kind == "other"


def test_nobody_and_somebody_who_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert look_at(url, timeout_s=0.2).kind == "slow"
    assert look_at(url, timeout_s=5).detail == "connection refused"


def judged(serve: Serve, status: int, detail: str) -> tuple[LabelStudioClient, list[Request]]:
    server = serve(
        lambda request: Answer(status, {"id": 7, "status_code": status, "detail": detail})
    )
    return LabelStudioClient(server.url, TOKEN, timeout_s=5), server.requests


@pytest.mark.parametrize(
    ("status", "detail", "expected"),
    [
        (403, RESERVED, RESERVED),
        (400, "Validation error", ""),
        (500, "Can't resolve hostname nowhere.invalid", "its name cannot be resolved there"),
    ],
)
def test_whether_label_studio_would_call_an_address(
    serve: Serve, status: int, detail: str, expected: str
) -> None:
    client, requests = judged(serve, status, detail)
    assert client.address_refusal(3, "http://10.0.0.1:9090", of="connection") == expected
    (asked,) = requests
    assert (asked.method, asked.path) == ("POST", "/api/ml/")
    assert asked.body == {
        "project": 3,
        "url": "http://10.0.0.1:9090",
        "timeout": "not valid on purpose",
    }


def test_other_trouble_is_not_taken_for_a_refusal(serve: Serve) -> None:
    client, _ = judged(serve, 500, "database is locked")
    with pytest.raises(LabelStudioUnavailable, match="locked"):
        client.address_refusal(3, "http://10.0.0.1:9090", of="webhook")


def test_what_a_later_release_might_take_is_deleted_again(serve: Serve) -> None:
    client, requests = judged(serve, 201, "")
    assert client.address_refusal(3, "http://10.0.0.1:9090/webhook", of="webhook") == ""
    assert [(r.method, r.path) for r in requests] == [
        ("POST", "/api/webhooks/"),
        ("DELETE", "/api/webhooks/7/"),
    ]


def project_of(serve: Serve, count: int) -> LabelStudioClient:
    """A Label Studio whose project has ``count`` tasks."""

    def reply(request: Request) -> Answer:
        size, page = int(request.query["page_size"]), int(request.query["page"])
        ids = range((page - 1) * size + 1, min(page * size, count) + 1)
        rows = [
            {"id": i, "data": {"image": f"/{i}.png"}, "completed_at": "2026-11-21T10:52:15Z"}
            for i in ids
        ]
        return Answer(200, {"tasks": rows, "total": count})

    return LabelStudioClient(serve(reply).url, TOKEN, timeout_s=5)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (2, [1, 2]),
        (5, [1, 2, 3, 4, 5]),
        (9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (100, [1, 2, 3, 49, 50, 51, 100]),
    ],
)
def test_a_sample_from_start_middle_and_end(serve: Serve, count: int, expected: list[int]) -> None:
    found = project_of(serve, count).some_tasks(1, 9)
    assert [task_id for task_id, _ in found] == expected
    assert all(data == {"image": f"/{task_id}.png"} for task_id, data in found)


def test_when_the_newest_label_was_given(serve: Serve) -> None:
    found = project_of(serve, 3).newest_label_at(1)
    assert found is not None
    assert found.isoformat() == "2026-11-21T10:52:15+00:00"
    assert project_of(serve, 0).newest_label_at(1) is None


def test_a_project_that_is_gone(serve: Serve) -> None:
    client = LabelStudioClient(serve(lambda request: Answer(404, {})).url, TOKEN, timeout_s=5)
    with pytest.raises(ProjectGone):
        client.some_tasks(1, 9)
