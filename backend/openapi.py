"""The OpenAPI document of our endpoints, made from the routes and the schemas of their bodies.

Nothing stands twice: addresses and methods come from the application, sentences from the
docstrings of its functions, bodies from ``backend/schemas.py``. Answers are listed here, and what
the dashboard's buttons send.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from inspect import cleandoc
from typing import Final

from flask import Flask
from pydantic import BaseModel, JsonValue
from werkzeug.routing import Rule

from backend.dashboard.actions import ACTIONS
from backend.dashboard.protection import FIELD
from backend.schemas import JobRequest, PredictRequest, SetupRequest, TrainRequest, WebhookEvent

Json = dict[str, JsonValue]

_VARIABLE: Final = re.compile(r"<(?:([^:<>]+):)?([^<>]+)>")
_OPEN: Final = frozenset({"/health"})
_BODIES: Final[Mapping[tuple[str, str], type[BaseModel]]] = {
    ("/setup", "post"): SetupRequest,
    ("/predict", "post"): PredictRequest,
    ("/webhook", "post"): WebhookEvent,
    ("/train", "post"): TrainRequest,
    ("/job_status", "post"): JobRequest,
}
_TEXT: Final[Json] = {"type": "string"}
_QUERIES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("/versions", "get"): ("project",),
    ("/job_status", "get"): ("job",),
    ("/project/{project_id}", "get"): ("done",),
    ("/project/{project_id}/compare", "get"): ("a", "b"),
}


def _object(**fields: Json) -> Json:
    return {"type": "object", "properties": dict(fields), "required": list(fields)}


_RESULT: Final = _object(
    result={"type": "array", "items": {"type": "object"}},
    score={"type": "number", "minimum": 0, "maximum": 1},
    model_version=_TEXT,
)


@dataclass(frozen=True)
class _Answer:
    """What a path answers where nothing is wrong.

    Attributes:
        content: schema by content type.
        page: it is one of the dashboard's, whose own errors are pages too.
        kept: a browser that has it is told so.
    """

    content: Mapping[str, Json]
    status: str = "200"
    page: bool = False
    kept: bool = False


def _json(schema: Json, status: str = "200") -> _Answer:
    return _Answer({"application/json": schema}, status)


_UP: Final = _object(status=_TEXT, model_class=_TEXT)
_HTML: Final = {"text/html": _TEXT}
_PAGE: Final = _Answer(_HTML, page=True)
_FILES: Final = ("text/css", "text/javascript", "image/svg+xml")
_ACTION: Final = "/project/{project_id}/actions/{name}"
_ANSWERS: Final[Mapping[str, _Answer]] = {
    "/health": _json(_UP),
    "/": _Answer({"application/json": _UP, **_HTML}, page=True),
    "/setup": _json(_object(model_version=_TEXT)),
    "/predict": _json(_object(results={"type": "array", "items": _RESULT})),
    "/webhook": _json(_object(status={"type": "string", "enum": ["noted", "ignored"]})),
    "/train": _json(_object(status={"type": "string", "enum": ["noted"]}), "201"),
    "/versions": _json(_object(versions={"type": "array", "items": _TEXT})),
    "/job_status": _json({}),
    "/job_status/{job}": _json({}),
    "/openapi.json": _json({}),
    "/metrics": _Answer({"text/plain": _TEXT}),
    "/project/{project_id}": _PAGE,
    "/project/{project_id}/now": _PAGE,
    "/project/{project_id}/queue": _PAGE,
    "/project/{project_id}/review": _PAGE,
    "/project/{project_id}/compare": _PAGE,
    "/project/{project_id}/picture/{task_id}": _Answer({"image/jpeg": {}}, page=True, kept=True),
    _ACTION: _Answer(_HTML, status="303", page=True),
    "/dashboard/{name}": _Answer(dict.fromkeys(_FILES, _TEXT), kept=True),
    "/dashboard/plotly-{version}.js": _Answer({"text/javascript": _TEXT}),
}
_FORM: Final[Json] = {
    **_object(**{FIELD: _TEXT}),
    "properties": {FIELD: _TEXT, "version": _TEXT},
}
_ERROR: Final = _object(error=_object(code=_TEXT, message=_TEXT, request_id=_TEXT))
_REFUSALS: Final[Mapping[str, str]] = {
    "400": "The request is not what was expected; the message names the fields.",
    "401": "User or password is missing or wrong.",
    "403": "A page of another site sent it, or, of a button, no login guards the dashboard.",
    "404": "There is no such thing.",
    "413": "The body is over RAREFIRST_MAX_BODY_MB.",
}
_PAGES_TOO: Final = frozenset({"400", "403"})
_PAGE_REFUSALS: Final[Mapping[str, str]] = {
    "409": "It cannot be done or shown as things are; the page says why.",
}


def document(app: Flask) -> Json:
    """The document of an application's routes (OpenAPI 3.1)."""
    paths: dict[str, JsonValue] = {}
    schemas: Json = {"Error": _ERROR}
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        path = _VARIABLE.sub(r"{\2}", rule.rule)
        operations = paths.setdefault(path, {})
        assert isinstance(operations, dict)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            operations[method.lower()] = _operation(app, rule, path, method.lower(), schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "rarefirst", "version": version("rarefirst")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
        "security": [{"basic": []}],
    }


def _operation(app: Flask, rule: Rule, path: str, method: str, schemas: Json) -> Json:
    """One method of one address."""
    said = cleandoc(app.view_functions[rule.endpoint].__doc__ or rule.endpoint)
    made: Json = {
        "operationId": f"{method} {path}",
        "summary": said.splitlines()[0],
        "responses": _responses(path),
    }
    if path in _OPEN:
        made["security"] = []
    parameters: list[JsonValue] = [
        {"name": name, "in": "path", "required": True, "schema": _variable(path, kind, name)}
        for kind, name in sorted(_VARIABLE.findall(rule.rule))
    ]
    parameters += [
        {"name": query, "in": "query", "required": False, "schema": _TEXT}
        for query in _QUERIES.get((path, method), ())
    ]
    if parameters:
        made["parameters"] = parameters
    body = _BODIES.get((path, method))
    if body is not None:
        schemas[body.__name__] = _schema(body, schemas)
        content: Json = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    elif path == _ACTION:
        form: Json = {"application/x-www-form-urlencoded": {"schema": _FORM}}
        made["requestBody"] = {"required": True, "content": form}
    return made


def _schema(body: type[BaseModel], schemas: Json) -> Json:
    """A body's schema; what it refers to is put beside it."""
    schema: Json = body.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs", {})
    assert isinstance(parts, dict)
    schemas.update(parts)
    return schema


def _variable(path: str, kind: str, name: str) -> Json:
    """What may stand in an address."""
    if kind == "int":
        return {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
    if path == _ACTION:
        return {"type": "string", "enum": list(ACTIONS)}
    return {"type": "string", "minLength": 1}


def _responses(path: str) -> Json:
    answer = _ANSWERS[path]
    done: Json = {kind: {"schema": schema} for kind, schema in answer.content.items()}
    made: Json = {answer.status: {"description": "It was done.", "content": done}}
    if answer.kept:
        made["304"] = {"description": "It is what the browser has already."}
    error: Json = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    page: Json = {kind: {"schema": schema} for kind, schema in _HTML.items()}
    for code, why in _REFUSALS.items():
        content = {**error, **page} if answer.page and code in _PAGES_TOO else error
        made[code] = {"description": why, "content": content}
    if answer.page:
        made |= {
            code: {"description": why, "content": page} for code, why in _PAGE_REFUSALS.items()
        }
    return made
