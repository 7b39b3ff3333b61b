"""What the official package label-studio-ml 2.x was seen to do, for where it is not installed.

Written from its behaviour, not from its text: what is here is what `RareFirst` meets, and
``compare_with_official`` finds each answer of this server equal to the real one's (commit
d02cedf35d0e5d21f2f437c120174c62f66bf57a), tracebacks aside.
"""

from __future__ import annotations

import hmac
import logging
import os
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from flask import Flask, Response, jsonify, make_response, request


def modules() -> dict[str, ModuleType]:
    """Fresh modules by name, to be put into ``sys.modules``: the server is a global of one."""
    package = ModuleType("label_studio_ml")
    model, api, exceptions, response = (
        ModuleType(f"label_studio_ml.{name}") for name in ("model", "api", "exceptions", "response")
    )
    vars(package).update(model=model, api=api, exceptions=exceptions, response=response)
    package.__path__ = []
    vars(response).update(ModelResponse=dict)
    vars(exceptions).update(AnswerException=AnswerException)
    vars(model).update(LabelStudioMLBase=LabelStudioMLBase)
    api.__dict__.update(
        TRAIN_EVENTS=(
            "ANNOTATION_CREATED",
            "ANNOTATION_UPDATED",
            "ANNOTATION_DELETED",
            "START_TRAINING",
        )
    )
    vars(api).update(init_app=_server(api))
    found = (package, model, api, exceptions, response)
    return {module.__name__: module for module in found}


class LabelStudioMLBase:
    """The base class: values are kept by project and key, and must be text."""

    INITIAL_MODEL_VERSION = "0.0.1"
    _values: dict[tuple[str, str], str] = {}  # noqa: RUF012  (as the real one: of all models)

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.model_version:
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None:
        """For models to say their version."""

    def use_label_config(self, label_config: str) -> None:
        """Keep the config. The real one parses it too, and fails on what is not XML."""
        self.set("label_config", label_config)

    def get(self, key: str) -> str | None:
        """A value, or None."""
        return self._values.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        """Keep a value."""
        if not isinstance(value, str):
            raise ValueError("Value must be a string")
        self._values[self.project_id, key] = value

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        return (self.project_id, key) in self._values

    def set_extra_params(self, extra_params: Any) -> None:
        """Keep the connection's extra params."""
        self.set("extra_params", extra_params)

    @property
    def label_config(self) -> str | None:
        """The config that was kept."""
        return self.get("label_config")

    @property
    def model_version(self) -> str | None:
        """The version that was kept."""
        return self.get("model_version")

    def predict(self, tasks: Any, context: Any = None, **kwargs: Any) -> Any:
        """For models."""

    def fit(self, event: str, data: Any, **additional_params: Any) -> Any:
        """For models."""


class AnswerException(Exception):  # noqa: N818  (its name)
    """An error with the status to answer."""

    def __init__(self, status: int, msg: str = "", result: dict[str, Any] | None = None) -> None:
        super().__init__(status, msg)
        self.status, self.msg, self.result = status, msg, result or {}


def _detail(status: int, detail: str, result: dict[str, Any]) -> Response:
    body = {"status": status, "detail": detail, "request": request.args, "result": result}
    return make_response(jsonify(body), status)


def _guarded(view: Callable[[], Any]) -> Callable[[], Any]:
    """Answer every error as the real server does: with its text and a traceback."""

    def guarded() -> Any:
        try:
            return view()
        except AnswerException as error:
            found = {"traceback": traceback.format_exc(), **error.result}
            return _detail(error.status, error.msg, found)
        except Exception as error:
            found = {"traceback": traceback.format_exc()}
            return _detail(500, f"{type(error).__name__}: {error}", found)

    guarded.__name__ = view.__name__
    return guarded


def _server(api: ModuleType) -> Callable[..., Flask]:
    """``init_app`` of a server of its own."""
    app = Flask("label_studio_ml.api", static_folder=None)
    model: type[LabelStudioMLBase] = LabelStudioMLBase
    credentials: tuple[str, str] | None = None

    @app.post("/predict")
    @_guarded
    def _predict() -> Response:
        asked = request.json
        tasks, config = asked.get("tasks"), asked.get("label_config")
        project_id = str(asked.get("project")).split(".", 1)[0]
        params = asked.get("params", {})
        context = params.pop("context", {})
        made = model(project_id=project_id, label_config=config)
        found = made.predict(tasks, context=context, **params)
        if isinstance(found, dict):
            found = found.get("predictions", found)
        return jsonify({"results": [] if found is None else found})

    @app.post("/setup")
    @_guarded
    def _setup() -> Response:
        asked = request.json
        project_id = asked.get("project").split(".", 1)[0]
        made = model(project_id=project_id, label_config=asked.get("schema"))
        if asked.get("extra_params"):
            made.set_extra_params(asked.get("extra_params"))
        return jsonify({"model_version": made.get("model_version")})

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        heard = request.json
        event = heard.pop("action")
        if event not in api.TRAIN_EVENTS:
            return jsonify({"status": "Unknown event"}), 200
        project = heard["project"]
        project_id, config = str(project["id"]), project["label_config"]
        result = model(project_id, label_config=config).fit(event, heard)
        return jsonify({"result": result, "status": "ok"}), 201

    @app.get("/health")
    @app.get("/")
    @_guarded
    def health() -> Response:
        return jsonify({"status": "UP", "model_class": model.__name__})

    @app.get("/metrics")
    @_guarded
    def metrics() -> Response:
        return jsonify({})

    @app.before_request
    def check_auth() -> Response | None:
        given = request.authorization
        if credentials is None:
            return None
        if given is not None:
            user = hmac.compare_digest(given.username, credentials[0])  # type: ignore[type-var]
            password = hmac.compare_digest(given.password, credentials[1])  # type: ignore[type-var]
            if user and password:
                return None
        challenge = {"WWW-Authenticate": 'Basic realm="Login required"'}
        return Response("Unauthorized", 401, challenge)

    @app.before_request
    def read() -> None:
        logging.getLogger("label_studio_ml.api").debug("%s", request.get_data())

    def init_app(
        model_class: type[LabelStudioMLBase],
        basic_auth_user: str | None = None,
        basic_auth_pass: str | None = None,
    ) -> Flask:
        nonlocal model, credentials
        model = model_class
        user = basic_auth_user or os.environ.get("BASIC_AUTH_USER")
        password = basic_auth_pass or os.environ.get("BASIC_AUTH_PASS")
        if user and password:
            credentials = (user, password)
        return app

    return init_app
