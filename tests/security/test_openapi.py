"""The OpenAPI document, and schemathesis sending what it says, and what it does not, to the app."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.app import create_app
from backend.dashboard.actions import ACTIONS
from backend.dashboard.plotly_js import plotly_version
from backend.jobs import Jobs
from backend.labelstudio.event_hook import authorization_header
from backend.openapi import _ANSWERS, _BODIES, _QUERIES
from backend.projects import ProjectStores
from backend.schemas import PredictRequest, SetupRequest, TrainRequest, parse
from backend.settings import Settings
from tests.security.conftest import Tried
from tests.unit.backend.conftest import Recorder
from tests.unit.backend.dashboard.kept import EVIL, OURS, PASSWORD, USER, Kept, token_of

BUTTONS = list(ACTIONS)
#: What every answer must be, whatever was asked.
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
PROJECT = "/project/{project_id}"
ACTION = f"{PROJECT}/actions/{{name}}"
PAGES = [
    ("GET", PROJECT), ("GET", f"{PROJECT}/compare"), ("GET", f"{PROJECT}/now"),
    ("GET", f"{PROJECT}/picture/{{task_id}}"), ("GET", f"{PROJECT}/queue"),
    ("GET", f"{PROJECT}/review"), ("POST", ACTION),
]  # fmt: skip
OPERATIONS = [
    ("GET", "/"), ("GET", "/dashboard/plotly-{version}.js"), ("GET", "/dashboard/{name}"),
    ("GET", "/health"), ("GET", "/job_status"), ("GET", "/job_status/{job}"),
    ("GET", "/metrics"), ("GET", "/openapi.json"), *PAGES[:-1], ("GET", "/versions"),
    ("POST", "/job_status"), ("POST", "/predict"), PAGES[-1], ("POST", "/setup"),
    ("POST", "/train"), ("POST", "/webhook"),
]  # fmt: skip
LOGIN = {"Authorization": authorization_header(USER, PASSWORD)}
BROWSER = {"Accept": "text/html,*/*;q=0.8", **OURS}
#: What may be drawn to reach what is there: names of versions, of tasks, of our files.
THERE = {
    "task_id": [5, 6, 12],
    "name": [*BUTTONS, "dashboard.css", "dashboard.js", "icon.svg"],
    "version": [plotly_version()],
    "a": ["v0001"],
    "b": ["v0001"],
}


def test_the_document_lists_every_route_with_its_body(client: FlaskClient, app: Flask) -> None:
    found = client.get("/openapi.json").get_json()
    listed = sorted((m.upper(), path) for path, ops in found["paths"].items() for m in ops)
    assert listed == sorted(OPERATIONS)
    with_body = {
        (path, m) for path, ops in found["paths"].items() for m in ops if "requestBody" in ops[m]
    }
    assert with_body == {(p, m.lower()) for m, p in OPERATIONS if m == "POST"}
    assert with_body - set(_BODIES) == {(ACTION, "post")}
    assert set(_ANSWERS) == set(found["paths"]) >= {p for p, _ in _QUERIES}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            assert len(operation["summary"]) > 10, path
    assert found["paths"]["/health"]["get"]["security"] == []
    references = set(json.dumps(found).split('"#/components/schemas/')[1:])
    assert {text.partition('"')[0] for text in references} <= set(found["components"]["schemas"])


def test_the_document_says_what_kind_a_page_is(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    for method, path in PAGES[:3]:
        answers = paths[path][method.lower()]["responses"]
        assert set(answers["200"]["content"]) == set(answers["409"]["content"]) == {"text/html"}
    assert set(paths[ACTION]["post"]["responses"]) == {
        *("303", "400", "401", "403", "404", "409", "413")
    }
    names = [one for one in paths[ACTION]["post"]["parameters"] if one["name"] == "name"]
    assert names[0]["schema"]["enum"] == BUTTONS


@pytest.mark.parametrize(
    "project", ["1", "1.1795231806", 7, {"id": 1, "created_at": "2026-11-21T05:16:46Z"}]
)
def test_what_the_document_says_of_a_project_is_taken(project: object) -> None:
    raw = json.dumps({"project": project}).encode()
    for body in (SetupRequest, PredictRequest, TrainRequest):
        assert parse(body, raw).project is not None


class Fuzzed:
    """An app with a project to show, a session of its dashboard, and what was sent and answered.

    Args:
        folder: the service's data directory.
    """

    def __init__(self, folder: Path) -> None:
        settings = Settings(
            data_dir=folder,
            label_studio_url="http://label-studio.test:8080",
            label_studio_api_key="not-a-token",
            basic_auth_user=USER,
            basic_auth_pass=PASSWORD,
            max_body_mb=1,
        )
        stores = ProjectStores(settings.data_dir, settings.label_studio_url)
        Kept(settings, stores.create(1, 1_795_231_806, "squares"), rare=EVIL).fill()
        self.app = create_app(settings, Jobs(settings, handler=Recorder(), immediate=True))
        self.app.testing = False
        page = self.app.test_client().get("/project/1", headers=LOGIN)
        set_cookie = page.headers["Set-Cookie"].partition(";")[0]
        self.cookies = dict([set_cookie.split("=", 1)])
        self.token = token_of(page.text)
        self.answers: Counter[int] = Counter()

    def send(self, case: schemathesis.Case, aimed: random.Random | None) -> None:
        """Send one; ``aimed``: with what is there in place of what was made up."""
        headers, cookies = {**LOGIN}, {}
        if aimed is not None:
            headers, cookies = headers | BROWSER, self.cookies
            given = (case.path_parameters, case.query, case.body)
            if isinstance(case.path_parameters, dict) and "project_id" in case.path_parameters:
                case.path_parameters["project_id"] = 1
            for fields in given:
                for name in THERE.keys() & (fields if isinstance(fields, dict) else {}):
                    fields[name] = aimed.choice(THERE[name])
            if case.operation.path == ACTION and isinstance(case.body, dict):
                case.body["token"] = self.token
        response = case.call_and_validate(headers=headers, cookies=cookies, checks=CHECKS)
        self.answers[response.status_code] += 1


def _fuzz(folder: Path, method: str, path: str, examples: int) -> Counter[int]:
    """Send examples of one operation, right ones and wrong ones; how often each was answered."""
    fuzzed = Fuzzed(folder)
    schema = schemathesis.openapi.from_wsgi("/openapi.json", fuzzed.app, headers=LOGIN)
    operation = schema[path][method]
    # Of /health nothing can be asked wrongly: it has neither a parameter nor a login.
    wrong = () if path == "/health" else (GenerationMode.NEGATIVE,)

    for mode in (GenerationMode.POSITIVE, *wrong):
        strategy = operation.as_strategy(generation_mode=mode)

        @hypothesis_settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy, st.none() | st.randoms(use_true_random=False))
        def send(case: schemathesis.Case, aimed: random.Random | None) -> None:
            fuzzed.send(case, aimed)

        send()
    return fuzzed.answers


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nothing_that_schemathesis_sends_breaks_an_answer(
    clean_environment: None, tried: Tried, tmp_path: Path, method: str, path: str
) -> None:
    answers = _fuzz(tmp_path, method, path, 25)
    assert answers.total() >= 1
    tried(answers.total())
    if (method, path) in PAGES:
        reached = {200, 303, 409} if method == "POST" else {200}
        assert answers.keys() & reached, answers


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nothing_that_schemathesis_sends_at_length(
    clean_environment: None, tried: Tried, tmp_path: Path, method: str, path: str
) -> None:
    answers = _fuzz(tmp_path, method, path, 1000)
    tried(answers.total(), **{str(status): count for status, count in sorted(answers.items())})
    assert not [status for status in answers if status >= 500]
