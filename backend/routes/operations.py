"""Endpoints for those who run the service."""

from __future__ import annotations

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST

from backend.routes.services import services

blueprint = Blueprint("operations", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Everything that Prometheus reads."""
    return Response(services().metrics.render(), content_type=CONTENT_TYPE_LATEST)
