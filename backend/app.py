"""The web application: routes, one error shape, limits, metrics."""

from __future__ import annotations

import logging
import uuid

from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from backend.dashboard.protection import refuse_other_sites
from backend.errors import BackendError
from backend.jobs import Jobs
from backend.marks import Marks
from backend.metrics import Metrics
from backend.routes import dashboard, ml_api, numbers, operations
from backend.routes.services import Services, install
from backend.scoring import Scoring
from backend.security import require_basic_auth
from backend.settings import Settings

logger = logging.getLogger(__name__)


def create_app(settings: Settings, jobs: Jobs, *, scoring: Scoring | None = None) -> Flask:
    """The WSGI application. It loads no model: /predict does, on first need."""
    app = Flask("rarefirst", static_folder=None)
    app.url_map.strict_slashes = False
    numbers.install(app)
    made = Services(settings, jobs, scoring or Scoring(settings, jobs), Metrics(settings))
    install(app, made)
    furnish(app, made)
    app.register_blueprint(ml_api.blueprint)
    app.register_blueprint(operations.blueprint)
    app.register_blueprint(dashboard.blueprint)
    app.after_request(dashboard.guarded)
    return app


def furnish(app: Flask, made: Services) -> None:
    """Give an app, ours or the official server's, our limits, counts, login and error answers."""
    settings = made.settings
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_mb * 2**20

    @app.before_request
    def name_request() -> None:
        g.request_id = uuid.uuid4().hex[:12]

    made.metrics.watch(app)
    require_basic_auth(app, settings.basic_auth, refused=Marks(settings.data_dir).leave)
    refuse_other_sites(app, settings.own_url)
    _answer_errors(app, settings)


def _answer_errors(app: Flask, settings: Settings) -> None:
    """One shape for every error: ``{"error": {"code", "message", "request_id"}}``."""

    @app.errorhandler(BackendError)
    def backend_error(error: BackendError) -> Response:
        logger.warning("%s %s: %s [%s]", request.method, request.path, error, g.request_id)
        return _error(error.http_status, error.code, str(error))

    @app.errorhandler(RequestEntityTooLarge)
    def too_large(error: RequestEntityTooLarge) -> Response:
        message = (
            f"the body is larger than {settings.max_body_mb} MiB; send fewer tasks at once or "
            "raise RAREFIRST_MAX_BODY_MB"
        )
        return _error(413, "request_too_large", message)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        code = (error.name or "error").lower().replace(" ", "_")
        response = _error(error.code or 500, code, error.description or error.name)
        for name, value in error.get_headers():
            if name.lower() in {"www-authenticate", "allow"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        # The client learns the request id only; the log has the rest.
        logger.error(
            "%s %s failed [%s]", request.method, request.path, g.request_id, exc_info=error
        )
        message = f"something failed here; the log has it under {g.request_id}"
        return _error(500, "internal_error", message)


def _error(status: int, code: str, message: str) -> Response:
    response = jsonify({"error": {"code": code, "message": message, "request_id": g.request_id}})
    response.status_code = status
    return response
