"""Endpoints for those who run the service."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify
from prometheus_client import CONTENT_TYPE_LATEST

from backend.openapi import document
from backend.routes.services import services

blueprint = Blueprint("operations", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Everything that Prometheus reads."""
    return Response(services().metrics.render(), content_type=CONTENT_TYPE_LATEST)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """What this service answers, as an OpenAPI document."""
    return jsonify(document(current_app))
