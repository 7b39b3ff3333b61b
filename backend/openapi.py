"""The OpenAPI document of our endpoints, made from the routes and the schemas of their bodies.

Nothing stands twice: addresses and methods come from the application, sentences from the
docstrings of its functions, bodies from ``backend/schemas.py``. Answers are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import version
from inspect import cleandoc
from typing import Final

from flask import Flask
from pydantic import BaseModel, JsonValue
from werkzeug.routing import Rule

from backend.schemas import JobRequest, PredictRequest, SetupRequest, TrainRequest, WebhookEvent

Json = dict[str, JsonValue]

_OPEN: Final = frozenset({"/health"})
_BODIES: Final[Mapping[tuple[str, str], type[BaseModel]]] = {
    ("/setup", "post"): SetupRequest,
    ("/predict", "post"): PredictRequest,
    ("/webhook", "post"): WebhookEvent,
    ("/train", "post"): TrainRequest,
    ("/job_status", "post"): JobRequest,
}
_TEXT: Final[Json] = {"type": "string"}
_QUERIES: Final[Mapping[tuple[str, str], str]] = {
    ("/versions", "get"): "project",
    ("/job_status", "get"): "job",
}


def _object(**fields: Json) -> Json:
    return {"type": "object", "properties": dict(fields), "required": list(fields)}


_RESULT: Final = _object(
    result={"type": "array", "items": {"type": "object"}},
    score={"type": "number", "minimum": 0, "maximum": 1},
    model_version=_TEXT,
)
_ANSWERS: Final[Mapping[str, tuple[str, Json]]] = {
    "/health": ("200", _object(status=_TEXT, model_class=_TEXT)),
    "/": ("200", _object(status=_TEXT, model_class=_TEXT)),
    "/setup": ("200", _object(model_version=_TEXT)),
    "/predict": ("200", _object(results={"type": "array", "items": _RESULT})),
    "/webhook": ("200", _object(status={"type": "string", "enum": ["noted", "ignored"]})),
    "/train": ("201", _object(status={"type": "string", "enum": ["noted"]})),
    "/versions": ("200", _object(versions={"type": "array", "items": _TEXT})),
}
_ERROR: Final = _object(error=_object(code=_TEXT, message=_TEXT, request_id=_TEXT))
_REFUSALS: Final[Mapping[str, str]] = {
    "400": "The request is not what was expected; the message names the fields.",
    "401": "User or password is missing or wrong.",
    "404": "There is no such thing.",
    "413": "The body is over RAREFIRST_MAX_BODY_MB.",
}


def document(app: Flask) -> Json:
    """The document of an application's routes (OpenAPI 3.1)."""
    paths: dict[str, JsonValue] = {}
    schemas: Json = {"Error": _ERROR}
    for rule in sorted(app.url_map.iter_rules(), key=lambda one: one.rule):
        path = re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)
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
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in sorted(rule.arguments)
    ]
    if query := _QUERIES.get((path, method)):
        parameters.append({"name": query, "in": "query", "required": False, "schema": _TEXT})
    if parameters:
        made["parameters"] = parameters
    body = _BODIES.get((path, method))
    if body is not None:
        schemas[body.__name__] = _schema(body, schemas)
        content: Json = {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}
        made["requestBody"] = {"required": True, "content": {"application/json": content}}
    return made


def _schema(body: type[BaseModel], schemas: Json) -> Json:
    """A body's schema; what it refers to is put beside it."""
    schema: Json = body.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs", {})
    assert isinstance(parts, dict)
    schemas.update(parts)
    return schema


def _responses(path: str) -> Json:
    status, answer = _ANSWERS.get(path, ("200", {}))
    kind = "text/plain" if path == "/metrics" else "application/json"
    content: Json = {kind: {"schema": answer}}
    refused: Json = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    made: Json = {status: {"description": "It was done.", "content": content}}
    made |= {code: {"description": why, "content": refused} for code, why in _REFUSALS.items()}
    return made
