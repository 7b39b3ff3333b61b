"""The OpenAPI document, and schemathesis sending what it says, and what it does not, to the app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.app import create_app
from backend.jobs import Jobs
from backend.openapi import _ANSWERS, _BODIES, _QUERIES
from backend.schemas import PredictRequest, SetupRequest, TrainRequest, parse
from backend.settings import Settings
from tests.unit.backend.conftest import Recorder

#: What every answer must be, whatever was asked.
CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]
OPERATIONS = [
    ("GET", "/"), ("GET", "/health"), ("GET", "/job_status"), ("GET", "/job_status/{job}"),
    ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/versions"), ("POST", "/job_status"),
    ("POST", "/predict"), ("POST", "/setup"), ("POST", "/train"), ("POST", "/webhook"),
]  # fmt: skip


def test_the_document_lists_every_route_with_its_body(client: FlaskClient, app: Flask) -> None:
    found = client.get("/openapi.json").get_json()
    listed = sorted((m.upper(), path) for path, ops in found["paths"].items() for m in ops)
    assert listed == sorted(OPERATIONS)
    with_body = {
        (path, m) for path, ops in found["paths"].items() for m in ops if "requestBody" in ops[m]
    }
    assert with_body == set(_BODIES) == {(p, m.lower()) for m, p in OPERATIONS if m == "POST"}
    assert set(_ANSWERS) | {p for p, _ in _QUERIES} <= set(found["paths"])
    for path, operations in found["paths"].items():
        for operation in operations.values():
            assert len(operation["summary"]) > 10, path
    assert found["paths"]["/health"]["get"]["security"] == []
    references = set(json.dumps(found).split('"#/components/schemas/')[1:])
    assert {text.partition('"')[0] for text in references} <= set(found["components"]["schemas"])


@pytest.mark.parametrize(
    "project", ["1", "1.1795231806", 7, {"id": 1, "created_at": "2026-11-21T05:16:46Z"}]
)
def test_what_the_document_says_of_a_project_is_taken(project: object) -> None:
    raw = json.dumps({"project": project}).encode()
    for body in (SetupRequest, PredictRequest, TrainRequest):
        assert parse(body, raw).project is not None


def _fuzz(folder: Path, method: str, path: str, examples: int) -> int:
    """Send examples of one operation, right ones and wrong ones; how many were sent."""
    settings = Settings(
        data_dir=folder,
        label_studio_url="http://label-studio.test:8080",
        label_studio_api_key="not-a-token",
        max_body_mb=1,
    )
    app = create_app(settings, Jobs(settings, handler=Recorder(), immediate=True))
    app.testing = False
    schema = schemathesis.openapi.from_wsgi("/openapi.json", app)
    operation = schema[path][method]
    count = 0
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
        @given(strategy)
        def send(case: schemathesis.Case) -> None:
            nonlocal count
            count += 1
            case.call_and_validate(checks=CHECKS)

        send()
    return count


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nothing_that_schemathesis_sends_breaks_an_answer(
    clean_environment: None, tmp_path: Path, method: str, path: str
) -> None:
    assert _fuzz(tmp_path, method, path, 25) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_nothing_that_schemathesis_sends_at_length(
    clean_environment: None, tmp_path: Path, method: str, path: str
) -> None:
    assert _fuzz(tmp_path, method, path, 1000) >= 1
