"""The ML-backend protocol of Label Studio (PROTOCOL notes: requests, webhooks, do and don't).

/health, /setup, /webhook and /versions load nothing: Label Studio waits one second for the first
and hangs up on a webhook after one.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import NotFound

from backend import events
from backend.errors import BadRequest
from backend.routes import dashboard
from backend.routes.bodies import body
from backend.routes.services import services
from backend.schemas import (
    JobRequest,
    PredictRequest,
    SetupRequest,
    TrainRequest,
    WebhookEvent,
    parse,
)

blueprint = Blueprint("ml_api", __name__)


@blueprint.get("/health")
def health() -> Response:
    """Say that this process answers; settings that are missing do not make it ill."""
    return jsonify({"status": "UP", "model_class": "RareFirst"})


@blueprint.get("/")
def home() -> Response:
    """What /health says; to a browser, which asks for a page, the dashboard."""
    if "text/html" not in request.headers.get("Accept", ""):
        return health()
    return dashboard.projects_page()


@blueprint.post("/setup")
def setup() -> Response:
    """Name the published model version; a project that is new to us is asked after."""
    asked = parse(SetupRequest, body())
    return jsonify({"model_version": events.setup(services().jobs, asked)})


@blueprint.post("/predict")
def predict() -> Response:
    """One result for each task, in order."""
    asked = parse(PredictRequest, body())
    return jsonify({"results": services().scoring.predict(asked)})


@blueprint.post("/webhook")
def webhook() -> Response:
    """Take note of what happened; work is done elsewhere."""
    event = parse(WebhookEvent, body())
    return jsonify(events.take(services().jobs, event))


@blueprint.post("/train")
def train() -> tuple[Response, int]:
    """Start training, as older releases ask for it."""
    asked = parse(TrainRequest, body())
    if asked.project is None:
        raise BadRequest("the body names no project; send project as id.created_at")
    return jsonify(events.force_fit(services().jobs, asked.project)), 201


@blueprint.get("/versions")
def versions() -> Response:
    """Names of the published and the previous version, over all projects or of ``?project=``."""
    return jsonify({"versions": events.versions(services().jobs, request.args.get("project"))})


@blueprint.get("/job_status")
@blueprint.get("/job_status/<job>")
@blueprint.post("/job_status")
def job_status(job: str = "") -> Response:
    """How far a training is that a person asked for."""
    if request.method == "POST":
        job = parse(JobRequest, body()).job
    job = job or request.args.get("job", "")
    if not job:
        return jsonify({"jobs": [status.model_dump() for status in events.jobs(services().jobs)]})
    status = events.job(services().jobs, job)
    if status is None:
        raise NotFound("no such job; START_TRAINING names one in its answer")
    return jsonify(status.model_dump())
