"""Authentication, limits and the one error shape, at every endpoint."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys

import pytest
from flask import Flask
from flask.testing import FlaskClient

from backend.app import create_app
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.project_settings import FILE, ProjectSettings, digest
from backend.projects import ProjectStore
from backend.security import is_allowed
from backend.settings import Settings

ENDPOINTS = [
    ("GET", "/health"),
    ("GET", "/"),
    ("POST", "/setup"),
    ("POST", "/predict"),
    ("POST", "/webhook"),
    ("POST", "/train"),
    ("GET", "/versions"),
    ("GET", "/job_status"),
    ("GET", "/job_status/1-0123abcd.5"),
    ("POST", "/job_status"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]
TAKE_JSON = [path for method, path in ENDPOINTS if method == "POST"]
BODY = {"project": "1.1795231806", "action": "NEW_THING", "tasks": [], "job": "1-0123abcd.5"}


def error_of(body: object) -> dict[str, str]:
    assert isinstance(body, dict)
    assert set(body) == {"error"}
    error: dict[str, str] = body["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert all(isinstance(value, str) and value for value in error.values())
    return error


@pytest.fixture
def guarded(settings: Settings, jobs: Jobs) -> FlaskClient:
    locked = settings.model_copy(
        update={"basic_auth_user": "label", "basic_auth_pass": "pa:ss wörd"}
    )
    return create_app(locked, jobs).test_client()


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_every_endpoint_but_health_asks_for_the_password(
    guarded: FlaskClient, method: str, path: str
) -> None:
    response = guarded.open(path, method=method, json=BODY if method == "POST" else None)
    if path == "/health":
        assert response.status_code == 200
    else:
        assert response.status_code == 401
        assert error_of(response.get_json())["code"] == "unauthorized"
        assert response.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_every_endpoint_opens_with_the_password(
    guarded: FlaskClient, method: str, path: str
) -> None:
    header = {"Authorization": authorization_header("label", "pa:ss wörd")}
    response = guarded.open(
        path, method=method, headers=header, json=BODY if method == "POST" else None
    )
    assert response.status_code in {200, 201, 404}  # 404: no such job


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic bGFiZWw=",
        "Bearer " + base64.b64encode(b"label:secret").decode(),
        authorization_header("label", "Secret"),
        authorization_header("labe", "secret"),
        authorization_header("label", ""),
        authorization_header("", "secret"),
        authorization_header("label", "secret") + "AAAA",
    ],
)
def test_wrong_credentials_are_refused(header: str) -> None:
    assert not is_allowed(header, ("label", "secret"))


def test_right_credentials_are_taken() -> None:
    assert is_allowed(authorization_header("label", "secret"), ("label", "secret"))
    assert is_allowed(authorization_header("label", "a:b"), ("label", "a:b"))
    assert is_allowed(
        authorization_header("label", "secret").replace("Basic", "basic"), ("label", "secret")
    )


@pytest.mark.parametrize("path", TAKE_JSON)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_clear_error(
    client: FlaskClient, path: str, body: bytes
) -> None:
    response = client.post(path, data=body, content_type="application/json")
    assert response.status_code == 400
    assert error_of(response.get_json())["code"] == "bad_request"


def test_an_error_never_repeats_the_body(client: FlaskClient) -> None:
    body = {"project": "1.1", "tasks": "SECRET-TOKEN"}
    response = client.post("/predict", json=body)
    assert response.status_code == 400
    assert "tasks" in error_of(response.get_json())["message"]
    assert "SECRET-TOKEN" not in response.get_data(as_text=True)


@pytest.mark.parametrize("path", TAKE_JSON)
def test_a_body_over_the_limit_is_refused(client: FlaskClient, path: str) -> None:
    response = client.post(path, data=b"x" * (2**20 + 1), content_type="application/json")
    assert response.status_code == 413
    error = error_of(response.get_json())
    assert error["code"] == "request_too_large"
    assert "1 MiB" in error["message"]


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_what_nobody_expected_is_logged_and_named(
    app: Flask,
    client: FlaskClient,
    method: str,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("a defect with SECRET in it")

    rule, _ = app.url_map.bind("").match(path, method=method)
    monkeypatch.setitem(app.view_functions, rule, broken)
    response = client.open(path, method=method, json=BODY if method == "POST" else None)
    assert response.status_code == 500
    error = error_of(response.get_json())
    assert error["code"] == "internal_error"
    assert "SECRET" not in response.get_data(as_text=True)
    assert error["request_id"] in error["message"]
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert error["request_id"] in record.getMessage()
    assert record.exc_info is not None


def test_unknown_paths_and_methods_have_the_same_shape(client: FlaskClient) -> None:
    assert error_of(client.get("/nothing").get_json())["code"] == "not_found"
    refused = client.get("/predict")
    assert error_of(refused.get_json())["code"] == "method_not_allowed"
    assert "POST" in refused.headers["Allow"]


def test_setup_with_other_extra_params_asks_for_a_look(
    client: FlaskClient, store: ProjectStore
) -> None:
    def hinted(**body: object) -> bool:
        store.path("hints", "settings").unlink(missing_ok=True)
        answer = client.post("/setup", json={"project": "1.1795231806", **body})
        assert answer.status_code == 200
        return store.hint_mark("settings") is not None

    # Before the first look there is nothing to compare with: the worker looks anyway.
    assert not hinted(extra_params={"top_k": 7})
    store.write(FILE, ProjectSettings(seen=(digest({"top_k": 7}), digest("garbage"))))
    assert not hinted(extra_params={"top_k": 7})
    assert not hinted(extra_params="garbage")
    assert not hinted()
    assert hinted(extra_params={"top_k": 8})
    assert hinted(extra_params='{"top_k": 7}')
    assert hinted(extra_params=None)
    # What it brings is a hint only: it is not believed.
    found = store.read(FILE, ProjectSettings)
    assert found is not None
    assert found.overrides == {}


def test_bodies_and_tokens_are_never_logged(
    client: FlaskClient, store: ProjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "tok-3f9c"
    client.post(
        "/setup", json={"project": "1.1795231806", "access_token": secret, "hostname": secret}
    )
    client.post("/webhook", json={"action": "X", "project": {"id": 1, "token": secret}})
    client.post("/predict", json={"project": secret, "tasks": [], "params": {"password": secret}})
    client.post("/webhook", data=json.dumps({"token": secret})[:-1])
    assert secret not in caplog.text


def test_answering_needs_no_torch_and_no_sdk(settings: Settings) -> None:
    code = (
        "import sys; import backend.wsgi; c = backend.wsgi.app.test_client();"
        "c.get('/health'); c.post('/setup', json={'project': '1.5'});"
        "c.post('/webhook', json={'action': 'START_TRAINING', 'project': {'id': 1}});"
        "c.get('/versions'); c.get('/metrics');"
        "sys.exit(bool({'torch', 'label_studio_sdk', 'lancedb'} & set(sys.modules)))"
    )
    environment = {"RAREFIRST_DATA_DIR": str(settings.data_dir), "PATH": "/usr/bin:/bin"}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_metrics_tell_requests_and_the_state_of_projects(
    client: FlaskClient, store: ProjectStore, publish: object
) -> None:
    from datetime import UTC, datetime

    from backend.reports import ProjectReport

    assert callable(publish)
    publish([1, 2, 3], [0.1, 0.9, 0.5])
    store.write(
        "report.json",
        ProjectReport(
            project_id=1,
            at=datetime.now(UTC),
            tasks=60,
            embedded=58,
            queue_left=3,
            labels_by_class={"ship": 4},
        ),
    )
    client.get("/health")
    client.get("/nothing")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'rarefirst_requests_total{method="GET",route="/health",status="200"} 1.0' in text
    assert 'rarefirst_requests_total{method="GET",route="unknown",status="404"} 1.0' in text
    assert 'rarefirst_request_seconds_count{route="/health"} 1.0' in text
    assert 'rarefirst_labels{class="ship",project="1"} 4.0' in text
    assert 'rarefirst_queue_left{project="1"} 3.0' in text
    assert 'rarefirst_publication_age_seconds{project="1"}' in text
